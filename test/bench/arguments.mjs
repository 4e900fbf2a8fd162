import { parseArgs } from 'node:util';

const flags = '--only <row>[,<row>] --rounds <n> --against <commit> --json <file> --profile <folder>';
const usage = `npm run bench [-- ${flags}]`;
const defaultRounds = 5;

/** One row for the code that all drivers share, one for RabbitMQ and one for Kafka. */
const rowsAgainstRevision = ['pipeline', 'rabbitmq-events', 'kafka-events'];

/**
 * `against` is a commit to compare with instead of the rivals. `profile` is a folder for the CPU profiles of
 * each process that runs this library.
 */
export function readArguments(args, rows) {
  const text = { type: 'string' };
  const options = { only: text, rounds: text, against: text, json: text, profile: text };
  const { values } = parseArgs({ args, options });
  const { against, json, profile } = values;
  if (against === '') throw new Error(`--against takes a commit. ${usage}`);
  const chosen = values.only?.split(',') ?? (against === undefined ? undefined : rowsAgainstRevision);
  const only = chosen?.flatMap((name) => {
    const named = rows.filter((row) => row.name === name || row.group === name).map((row) => row.name);
    if (named.length > 0) return named;
    throw new Error(`no row "${name}"; rows are ${rows.map((row) => row.name).join(', ')}. ${usage}`);
  });
  const rounds = Number(values.rounds ?? defaultRounds);
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw new Error(`--rounds takes a count. ${usage}`);
  return { only, rounds, against, json, profile };
}
