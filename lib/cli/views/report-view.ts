import type { DeadLetterStore } from '../../core/port/dead-letter-store.js';
import type {
  DeadLetterProgress,
  DeadLetterReport,
  SkippedDeadLetter,
} from '../../core/dead-letter/admin/dead-letter-operations.js';
import { safeLine } from './safe-text.js';
import { destinationText, deadLettersText, storeText } from './pluralize.js';

/** An operation on dead letters, as infinitive and as past participle. */
export interface Operation {
  readonly name: 'replay' | 'discard';
  readonly done: 'replayed' | 'discarded';
}

/**
 * The result of an operation. `complete` is false after an interruption or failure: only the progress is
 * known.
 */
export interface Outcome
  extends DeadLetterProgress, Partial<Pick<DeadLetterReport, 'byReason' | 'skipped' | 'skippedDeadLetters'>> {
  readonly dryRun: boolean;
  readonly complete: boolean;
}

/** Limit of the skipped dead letters that are listed. */
const maxSkippedShown = 10;

/** The first line of output: what the operation is going to do. */
export function planLine(
  store: DeadLetterStore,
  { name }: Operation,
  { dryRun, total, max }: { readonly dryRun: boolean; readonly total: number; readonly max: number },
): string {
  const range =
    name === 'replay'
      ? `from ${storeText(store)} to ${destinationText(store)}`
      : `in ${storeText(store)}, permanently`;
  const limit = max === Infinity ? '' : `, at most ${max}`;
  return `${dryRun ? 'dry run: ' : ''}${name} ${range}: ${deadLettersText(total)} to scan${limit}\n`;
}

/** The report after the operation, with how to continue an incomplete one. */
export function reportView({ done }: Operation, outcome: Outcome): string {
  const { dryRun, complete, matched, seen, byReason = {}, skipped = 0, skippedDeadLetters = [] } = outcome;
  const would = dryRun ? 'would be ' : '';
  const lines = [`${deadLettersText(outcome.done)} ${would}${done}${complete ? '' : ' so far'}`];
  lines.push(...reasonLines(byReason));
  if (complete && matched === 0) lines.push(`none of the ${seen} scanned dead letters matches`);
  if (skipped > 0)
    lines.push(`${deadLettersText(skipped)} ${would}skipped:`, ...skippedLines(skippedDeadLetters, skipped));
  if (dryRun) lines.push('dry run: nothing was changed; add --yes');
  else if (!complete)
    lines.push(`the other dead letters are unchanged; run the same command again to continue`);
  return `${lines.join('\n')}\n`;
}

function reasonLines(byReason: Outcome['byReason'] = {}): string[] {
  const rows = Object.entries(byReason).toSorted(([, a], [, b]) => b - a);
  const wide = Math.max(0, ...rows.map(([reason]) => safeLine(reason).length));
  return rows.map(([reason, count]) => `  ${safeLine(reason).padEnd(wide)}  ${count}`);
}

function skippedLines(deadLetters: readonly SkippedDeadLetter[], skipped: number): string[] {
  const lines = deadLetters
    .slice(0, maxSkippedShown)
    .map(({ id, why }) => `  ${safeLine(id)}  ${safeLine(why)}`);
  return skipped > lines.length ? [...lines, `  … and ${skipped - lines.length} more`] : lines;
}
