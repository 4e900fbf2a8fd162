import { countDeadLetters, listDeadLetters } from '../core/dead-letter/admin/dead-letter-operations.js';
import type { DeadLetterFilter } from '../core/dead-letter/admin/dead-letter-filter.js';
import { isFiltering } from './input/filter.js';
import { jsonLine, deadLetterJson } from './views/dead-letter-json.js';
import { deadLetterTable } from './views/dead-letter-table.js';
import { deadLetterView } from './views/dead-letter-view.js';
import { safeLine } from './views/safe-text.js';
import { warn, type Session } from './session.js';
import { statsView } from './views/stats-view.js';
import { deadLettersText, storeText } from './views/pluralize.js';

/** No dead letter has that id. */
export class DeadLetterNotFoundError extends Error {}

export async function list(
  { store, host, json }: Session,
  filter: DeadLetterFilter,
  max: number,
): Promise<void> {
  const { signal, stdout } = host;
  // Before the scan: RabbitMQ does not count messages that a consumer holds, and the scan holds all of
  // them.
  const total = await store.count();
  const deadLetters = await listDeadLetters(store, { filter, signal, max });
  if (json) {
    for (const deadLetter of deadLetters) stdout.write(jsonLine(deadLetterJson(deadLetter)));
    return;
  }
  const stored = storeText(store);
  const matching = isFiltering(filter) ? 'matching ' : '';
  if (deadLetters.length === 0) return stdout.write(`no ${matching}dead letters in ${stored}\n`);
  stdout.write(deadLetterTable(deadLetters, stdout.width));
  const isCut = deadLetters.length >= max;
  const all = isFiltering(filter) || isCut ? `, ${total} in total` : '';
  const more = isCut ? '; only the oldest are shown, use --max for more' : '';
  stdout.write(`\n${deadLettersText(deadLetters.length, matching)} in ${stored}${all}${more}\n`);
}

export async function show({ store, host, json }: Session, id: string): Promise<void> {
  const { signal, stdout } = host;
  const [deadLetter, duplicate] = await listDeadLetters(store, { filter: { ids: [id] }, signal, max: 2 });
  if (deadLetter === undefined) {
    throw new DeadLetterNotFoundError(
      `there is no dead letter ${safeLine(id)} in ${storeText(store)}; "dlq list" shows their ids`,
    );
  }
  if (duplicate !== undefined) warn(host, `several dead letters have the id ${id}: only the first is shown`);
  stdout.write(json ? jsonLine(deadLetterJson(deadLetter)) : deadLetterView(deadLetter));
}

export async function stats({ store, host, json }: Session, filter: DeadLetterFilter): Promise<void> {
  const { signal, stdout } = host;
  const counted = await countDeadLetters(store, { filter, signal });
  if (!json) return stdout.write(statsView(store, counted));
  const { oldest = null, newest = null } = counted;
  const { name: from, source, group = null } = store;
  stdout.write(jsonLine({ from, source, group, ...counted, oldest, newest }));
}
