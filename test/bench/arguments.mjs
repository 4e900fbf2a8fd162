import { parseArgs } from 'node:util';

const usage = 'npm run bench [-- --only <row>[,<row>] --rounds <n> --json <file> --profile <folder>]';
const defaultRounds = 5;

/** `profile` is a folder that gets a CPU profile of each of our own processes. */
export function readArguments(args, rows) {
  const text = { type: 'string' };
  const { values } = parseArgs({ args, options: { only: text, rounds: text, json: text, profile: text } });
  const only = values.only?.split(',');
  const known = rows.map(({ name }) => name);
  const strange = only?.find((name) => !known.includes(name));
  if (strange !== undefined) throw new Error(`no row "${strange}"; rows are ${known.join(', ')}. ${usage}`);
  const rounds = Number(values.rounds ?? defaultRounds);
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw new Error(`--rounds takes a count. ${usage}`);
  return { only, rounds, json: values.json, profile: values.profile };
}
