import { timeToFirstLine } from '../../processes.mjs';

const program = new URL('start-import.program.mjs', import.meta.url);

export const open = () => ({ round: () => timeToFirstLine(program), close() {} });
