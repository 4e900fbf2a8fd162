import {
  browseDeadLetters,
  countDeadLetters,
  listDeadLetters,
  type BrowseOptions,
} from '../core/dead-letter/admin/dead-letter-operations.js';
import type { DeadLetterFilter } from '../core/dead-letter/admin/dead-letter-filter.js';
import type { DeadLetterRecord } from '../core/dead-letter/admin/dead-letter-record.js';
import { isFiltering } from './input/filter.js';
import { jsonLine, deadLetterJson } from './views/dead-letter-json.js';
import { deadLetterTable } from './views/dead-letter-table.js';
import { deadLetterView } from './views/dead-letter-view.js';
import { ProgressBar } from './views/progress-bar.js';
import { safeLine } from './views/safe-text.js';
import { countStored, warn, type CommandResult, type Session } from './session.js';
import { statsView } from './views/stats-view.js';
import { deadLettersText, storeText } from './views/pluralize.js';

/** No dead letter has that id. */
export class DeadLetterNotFoundError extends Error {}

/** Default of `--max` for the table; JSON has none, because it may be a backup. */
const maxTableRows = 100;

export async function list(
  session: Session,
  filter: DeadLetterFilter,
  max = session.json ? Infinity : maxTableRows,
): Promise<CommandResult> {
  const { store, host, json } = session;
  const { stdout } = host;
  const total = await countStored(session);
  const tableRows: DeadLetterRecord[] = [];
  let listed = 0;
  let isCut = false;
  // Written while the scan reads: the dead letters of a large queue do not fit into memory.
  const writeLine = async (deadLetter: DeadLetterRecord): Promise<void> => {
    stdout.write(jsonLine(deadLetterJson(deadLetter)));
    await stdout.flushed();
  };
  await withProgress(session, filter, total, (options) =>
    browseDeadLetters(store, options, async (deadLetter) => {
      isCut = listed === max;
      if (isCut) return false;
      listed++;
      if (json) await writeLine(deadLetter);
      else tableRows.push(deadLetter);
      return true;
    }),
  );
  const matching = isFiltering(filter) ? 'matching ' : '';
  const all = isFiltering(filter) || isCut ? `, ${total} in total` : '';
  const more = isCut ? '; only the oldest are shown, use --max for more' : '';
  const summary = `${deadLettersText(listed, matching)} in ${storeText(store)}${all}${more}`;
  if (json) {
    if (isCut) warn(host, summary);
  } else if (listed === 0) stdout.write(`no ${matching}dead letters in ${storeText(store)}\n`);
  else stdout.write(`${deadLetterTable(tableRows, stdout.width)}\n${summary}\n`);
  return isCut ? 'incomplete' : 'complete';
}

export async function show(session: Session, id: string): Promise<CommandResult> {
  const { store, host, json } = session;
  const total = await countStored(session);
  const [deadLetter, duplicate] = await withProgress(session, { ids: [id] }, total, (options) =>
    listDeadLetters(store, { ...options, max: 2 }),
  );
  if (deadLetter === undefined) {
    throw new DeadLetterNotFoundError(
      `there is no dead letter ${safeLine(id)} in ${storeText(store)}; "dlq list" shows their ids`,
    );
  }
  if (duplicate !== undefined) warn(host, `several dead letters have the id ${id}: only the first is shown`);
  host.stdout.write(json ? jsonLine(deadLetterJson(deadLetter)) : deadLetterView(deadLetter));
  return 'complete';
}

export async function stats(session: Session, filter: DeadLetterFilter): Promise<CommandResult> {
  const { store, host, json } = session;
  const stored = await countStored(session);
  const counted = await withProgress(session, filter, stored, (options) => countDeadLetters(store, options));
  const { oldest = null, newest = null } = counted;
  const { name: from, source, group = null } = store;
  host.stdout.write(
    json ? jsonLine({ from, source, group, ...counted, oldest, newest }) : statsView(store, counted),
  );
  return 'complete';
}

/** Calls `browse` with options that show its progress on standard error. */
async function withProgress<T>(
  { host, json }: Session,
  filter: DeadLetterFilter,
  total: number,
  browse: (options: BrowseOptions) => Promise<T>,
): Promise<T> {
  const { stdout, stderr, clock, signal } = host;
  // Lines of JSON on the same terminal are progress enough, and would be mixed with it.
  if (json && stdout.width !== undefined) return browse({ filter, signal });
  const bar = new ProgressBar({ output: stderr, clock, total, max: Infinity });
  try {
    return await browse({ filter, signal, onProgress: (progress) => bar.show(progress) });
  } finally {
    bar.end();
  }
}
