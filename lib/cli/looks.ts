import { countLetters, listLetters } from '../core/letter-work.js';
import type { DeadLetterFilter } from '../core/letter-filter.js';
import { isFiltering } from './filter.js';
import { jsonLine, letterJson } from './letter-json.js';
import { letterTable } from './letter-table.js';
import { letterView } from './letter-view.js';
import { safeLine } from './safe-text.js';
import { warn, type Session } from './session.js';
import { statsView } from './stats-view.js';
import { lettersText, placeText } from './words.js';

/** There is no such letter. */
export class NoLetterError extends Error {}

export async function list(
  { box, host, json }: Session,
  filter: DeadLetterFilter,
  max: number,
): Promise<void> {
  const { signal, stdout } = host;
  // Those that are being looked at are not counted.
  const total = await box.count();
  const letters = await listLetters(box, { filter, signal, max });
  if (json) {
    for (const letter of letters) stdout.write(jsonLine(letterJson(letter)));
    return;
  }
  const place = placeText(box);
  const matching = isFiltering(filter) ? ' that match' : '';
  if (letters.length === 0) return stdout.write(`no letters${matching} in ${place}\n`);
  stdout.write(letterTable(letters, stdout.width));
  const more = letters.length < max ? '' : `; these are the first, --max shows more`;
  const all = isFiltering(filter) || more !== '' ? `, ${total} lie there` : '';
  stdout.write(`\n${lettersText(letters.length)}${matching} in ${place}${all}${more}\n`);
}

export async function show({ box, host, json }: Session, id: string): Promise<void> {
  const { signal, stdout } = host;
  const [letter, another] = await listLetters(box, { filter: { ids: [id] }, signal, max: 2 });
  if (letter === undefined) {
    throw new NoLetterError(`there is no letter ${safeLine(id)} in ${placeText(box)}; "dlq list" names them`);
  }
  if (another !== undefined) warn(host, `several letters have the id ${id}: this is the first of them`);
  stdout.write(json ? jsonLine(letterJson(letter)) : letterView(letter));
}

export async function stats({ box, host, json }: Session, filter: DeadLetterFilter): Promise<void> {
  const { signal, stdout } = host;
  const counted = await countLetters(box, { filter, signal });
  if (!json) return stdout.write(statsView(box, counted));
  const { oldest = null, newest = null } = counted;
  const { name: from, source, group = null } = box;
  stdout.write(jsonLine({ from, source, group, ...counted, oldest, newest }));
}
