/**
 * Measures throughput, always as a ratio of contenders that run interleaved, round by round.
 *
 *     npm run bench                                   every row: this library against its rivals
 *     npm run bench -- --only pipeline --rounds 3     one row, three rounds
 *     npm run bench -- --only start                   a group of rows
 *     npm run bench -- --against <commit>             this working tree against another revision
 *     npm run bench -- --profile <folder>             writes CPU profiles of this library's processes
 *     npm run bench -- --json <file>                  writes one line of JSON for each result
 *
 * `--against` takes whatever git resolves to a commit: a hash, a tag, a branch, `HEAD`. Each row compares the
 * library of the working tree ("new") only with that revision ("old"). The default rows are `pipeline`,
 * `rabbitmq-events` and `kafka-events`; `--only` chooses others. The whole comparison runs twice, in fresh
 * processes. A row is "no worse" when the median of new by old reaches 0.95 in either comparison, otherwise
 * "worse"; with a worse row the exit code is 1.
 *
 * The old revision is checked out and built once, below `.build/bench`. It runs its own subjects,
 * `test/bench/subjects/stork`, since options may have had other names. Messages, partitions and concurrent
 * sends are those of the rows here. What a subject sets itself, such as prefetch, comes from its revision.
 */
import { writeFile } from 'node:fs/promises';
import { ensure } from '../support/brokers/index.mjs';
import { readArguments } from './arguments.mjs';
import { buildLibrary } from './build.mjs';
import { checkOut } from './checkout.mjs';
import { describeMachine } from './machine.mjs';
import { installPeers } from './peers.mjs';
import { compareWithRevision, rowsOf } from './revisions.mjs';
import { compareWithRivals } from './rivals.mjs';
import { rows } from './rows.mjs';

try {
  await main(readArguments(process.argv.slice(2), rows));
} catch (error) {
  console.error(`ERROR ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}

async function main({ only, against, json, ...options }) {
  const chosen = rows.filter(({ name }) => only === undefined || only.includes(name));
  const lines = await (against === undefined
    ? measureRivals(chosen, options)
    : measureRevision(chosen, against, options));
  if (json !== undefined) await writeFile(json, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

async function measureRivals(chosen, options) {
  buildLibrary();
  for (const rival of new Set(chosen.flatMap(({ against }) => against))) installPeers(rival);
  return compareWithRivals(chosen, { ...options, addressOf: await bringBrokersUp(chosen) });
}

async function measureRevision(chosen, commit, options) {
  const revision = checkOut(commit);
  const comparable = await rowsOf(revision, chosen);
  buildLibrary();
  const addressOf = await bringBrokersUp(comparable);
  const lines = await compareWithRevision(comparable, revision, { ...options, addressOf });
  if (lines.some(({ verdict }) => verdict === 'worse')) process.exitCode = 1;
  return lines;
}

/** Gives for a row what its subjects need of its broker: `url`, or `brokers`. */
async function bringBrokersUp(chosen) {
  const brokers = await ensure([...new Set(chosen.flatMap(({ broker }) => broker ?? []))]);
  for (const line of describeMachine(brokers)) console.log(line);
  return ({ broker }) => ({ url: brokers[broker]?.url, brokers: brokers[broker]?.brokers });
}
