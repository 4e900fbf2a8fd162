import type { DeadLetterStore } from '../../core/port/dead-letter-store.js';
import type {
  DeadLetterProgress,
  DeadLetterReport,
  SkippedDeadLetter,
} from '../../core/dead-letter/admin/dead-letter-operations.js';
import { safeLine } from './safe-text.js';
import { destinationText, deadLettersText, storeText } from './pluralize.js';

/** What is done to letters, and how it is said. */
export interface Operation {
  readonly name: 'replay' | 'discard';
  readonly done: 'replayed' | 'discarded';
}

/** What came of it; `complete` is false where it was interrupted or failed, and then not all is known. */
export interface Outcome
  extends DeadLetterProgress, Partial<Pick<DeadLetterReport, 'byReason' | 'skipped' | 'skippedDeadLetters'>> {
  readonly dryRun: boolean;
  readonly complete: boolean;
}

/** Letters that stay are named so far; more of the same tell nobody more. */
const skippedShown = 10;

/** What is about to happen. */
export function planLine(
  store: DeadLetterStore,
  { name }: Operation,
  { dryRun, total, max }: { readonly dryRun: boolean; readonly total: number; readonly max: number },
): string {
  const way =
    name === 'replay'
      ? `from ${storeText(store)} to ${destinationText(store)}`
      : `in ${storeText(store)}, for good`;
  const bound = max === Infinity ? '' : `, at most ${max} of them`;
  return `${dryRun ? 'dry run: ' : ''}${name} ${way}: ${deadLettersText(total)} to look at${bound}\n`;
}

/** What came of it, and how to go on. */
export function reportView({ done }: Operation, outcome: Outcome): string {
  const {
    dryRun,
    complete,
    matched,
    seen,
    byReason = {},
    skipped: kept = 0,
    skippedDeadLetters = [],
  } = outcome;
  const would = dryRun ? 'would be ' : '';
  const stays = dryRun ? 'would stay' : kept === 1 ? 'stays' : 'stay';
  const lines = [`${deadLettersText(outcome.done)} ${would}${done}${complete ? '' : ' so far'}`];
  lines.push(...reasonLines(byReason));
  if (complete && matched === 0) lines.push(`none of the ${seen} looked at matches`);
  if (kept > 0) lines.push(`${deadLettersText(kept)} ${stays}:`, ...skippedLines(skippedDeadLetters, kept));
  if (dryRun) lines.push('dry run: nothing was changed; add --yes');
  else if (!complete) lines.push(`the others lie where they were; run the same command again to go on`);
  return `${lines.join('\n')}\n`;
}

function reasonLines(byReason: Outcome['byReason'] = {}): string[] {
  const rows = Object.entries(byReason).toSorted(([, a], [, b]) => b - a);
  const wide = Math.max(0, ...rows.map(([reason]) => safeLine(reason).length));
  return rows.map(([reason, count]) => `  ${safeLine(reason).padEnd(wide)}  ${count}`);
}

function skippedLines(deadLetters: readonly SkippedDeadLetter[], kept: number): string[] {
  const lines = deadLetters
    .slice(0, skippedShown)
    .map(({ id, why }) => `  ${safeLine(id)}  ${safeLine(why)}`);
  return kept > lines.length ? [...lines, `  … and ${kept - lines.length} more`] : lines;
}
