import type { DeadLetterBox } from '../core/dead-letters.js';
import type { KeptLetter } from '../core/letter-work.js';
import type { Change, Outcome } from './changes.js';
import { safeLine } from './safe-text.js';
import { destinationText, lettersText, placeText } from './words.js';

/** Letters that stay are named so far; more of the same tell nobody more. */
const keptShown = 10;

/** What is about to happen. */
export function planLine(
  box: DeadLetterBox,
  { name }: Change,
  { dryRun, total, max }: { readonly dryRun: boolean; readonly total: number; readonly max: number },
): string {
  const way =
    name === 'replay'
      ? `from ${placeText(box)} to ${destinationText(box)}`
      : `in ${placeText(box)}, for good`;
  const bound = max === Infinity ? '' : `, at most ${max} of them`;
  return `${dryRun ? 'dry run: ' : ''}${name} ${way}: ${lettersText(total)} to look at${bound}\n`;
}

/** What came of it, and how to go on. */
export function reportView({ done }: Change, outcome: Outcome): string {
  const { dryRun, complete, matched, seen, byReason = {}, kept = 0, keptLetters = [] } = outcome;
  const would = dryRun ? 'would be ' : '';
  const stays = dryRun ? 'would stay' : kept === 1 ? 'stays' : 'stay';
  const lines = [`${lettersText(outcome.done)} ${would}${done}${complete ? '' : ' so far'}`];
  lines.push(...reasonLines(byReason));
  if (complete && matched === 0) lines.push(`none of the ${seen} looked at matches`);
  if (kept > 0) lines.push(`${lettersText(kept)} ${stays}:`, ...keptLines(keptLetters, kept));
  if (dryRun) lines.push('dry run: nothing was changed; add --yes');
  else if (!complete) lines.push(`the others lie where they were; run the same command again to go on`);
  return `${lines.join('\n')}\n`;
}

function reasonLines(byReason: Outcome['byReason'] = {}): string[] {
  const rows = Object.entries(byReason).toSorted(([, a], [, b]) => b - a);
  const wide = Math.max(0, ...rows.map(([reason]) => safeLine(reason).length));
  return rows.map(([reason, count]) => `  ${safeLine(reason).padEnd(wide)}  ${count}`);
}

function keptLines(letters: readonly KeptLetter[], kept: number): string[] {
  const lines = letters.slice(0, keptShown).map(({ id, why }) => `  ${safeLine(id)}  ${safeLine(why)}`);
  return kept > lines.length ? [...lines, `  … and ${kept - lines.length} more`] : lines;
}
