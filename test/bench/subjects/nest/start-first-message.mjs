import { pattern } from '../../order.mjs';
import { timeToFirstLine } from '../../processes.mjs';
import { Queue } from '../../queues.mjs';

const program = new URL('start-first-message.program.mjs', import.meta.url);

export async function open({ url }) {
  const queue = await Queue.open(url, 'nest');
  await queue.declare();
  return {
    async round() {
      // Nest reads the pattern from the body.
      await queue.fill(1, (data) => ({ pattern, data }));
      return timeToFirstLine(program, [url, queue.name]);
    },
    close: () => queue.delete(),
  };
}
