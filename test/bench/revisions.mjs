import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { order } from './order.mjs';
import { compare } from './rounds.mjs';
import { revisionTableLines } from './table.mjs';
import { leastRatio, verdictOf } from './verdict.mjs';

/** The second runs in fresh processes, so that one slow process or phase of the machine decides nothing. */
const comparisons = 2;

/**
 * The rows that the revision has a subject for; prints the others. Throws where no row is left, and where the
 * revision's messages have another size: the ratio would then compare different work.
 */
export async function rowsOf(revision, rows) {
  const comparable = rows.filter((row) => existsSync(subjectOf(row, revision.bench)));
  for (const { name, module } of rows.filter((row) => !comparable.includes(row)))
    console.log(`${name}: not compared, ${revision.name} has no test/bench/subjects/stork/${module}.mjs`);
  if (comparable.length === 0) throw new Error(`nothing to compare with ${revision.name}`);
  const theirs = await messageBytes(revision);
  const ours = JSON.stringify(order(0)).length;
  if (theirs !== undefined && theirs !== ours)
    throw new Error(`the messages of ${revision.name} have ${theirs} bytes, those here ${ours}`);
  return comparable;
}

/** Compares the working tree with the revision, prints tables and results, returns the lines for `--json`. */
export async function compareWithRevision(rows, revision, { rounds, profile, addressOf }) {
  console.log(`old: ${revision.name} (${revision.title}); new: this working tree`);
  const results = [];
  for (let comparison = 1; comparison <= comparisons; comparison++) {
    console.log(`\ncomparison ${comparison} of ${comparisons}`);
    for (const row of rows) {
      console.log(`${row.name}: ${row.messages} messages a round, ${rounds} rounds`);
      const contenders = contendersOf(row, revision, profile);
      const [result] = await compare(row, contenders, { rounds, address: addressOf(row) });
      results.push({ ...result, comparison });
    }
    const latest = results.filter((result) => result.comparison === comparison);
    for (const line of revisionTableLines(latest)) console.log(line);
  }
  console.log('');
  return rows.flatMap(({ name }) => judge(results.filter(({ row }) => row === name)));
}

/**
 * Profiling slows a process down, so it is on for both or for none. The file names of profiles do not tell
 * the revision, so each revision gets a folder.
 */
function contendersOf(row, revision, profile) {
  const here = new URL('./', import.meta.url);
  return [
    { name: 'stork', bench: here, folder: 'new' },
    { name: revision.name, bench: revision.bench, folder: 'old' },
  ].map(({ name, bench, folder }) => ({
    name,
    file: subjectOf(row, bench).href,
    profile: profile === undefined ? undefined : join(profile, folder),
  }));
}

function judge(results) {
  const ratios = results.map(({ ratio }) => ratio);
  const verdict = verdictOf(ratios);
  const shown = ratios.map((ratio) => ratio.toFixed(3)).join(' and ');
  console.log(`${results[0].row}: ${verdict} (${shown}; at least ${leastRatio} in one of them is no worse)`);
  return results.map(({ row, against, comparison, ratio, low, high, rounds, ours, theirs }) => {
    const throughputs = { new: Math.round(ours), old: Math.round(theirs) };
    return { row, against, comparison, ratio, low, high, rounds, ...throughputs, verdict };
  });
}

function subjectOf({ module }, bench) {
  return new URL(`subjects/stork/${module}.mjs`, bench);
}

async function messageBytes({ bench }) {
  const file = new URL('order.mjs', bench);
  if (!existsSync(file)) return undefined;
  const revision = await import(file.href);
  return JSON.stringify(revision.order(0)).length;
}
