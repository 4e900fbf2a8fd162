import type { StorkClock } from '../../core/runtime/clock.js';
import type { DeadLetterProgress } from '../../core/dead-letter/admin/dead-letter-operations.js';
import type { Output } from '../host.js';

const redrawMs = 100;
const barWidth = 24;
/** Without a terminal, e.g. in `kubectl exec`. */
const linePeriodMs = 10_000;

export interface ProgressBarFields {
  readonly output: Output;
  readonly clock: StorkClock;
  /** Number of stored dead letters, and the limit of those to replay or discard. */
  readonly total: number;
  readonly max: number;
  /** Past participle of the operation, e.g. `replayed`. Undefined while browsing, which counts matches. */
  readonly done?: string;
}

/** A bar that is redrawn on a terminal; elsewhere a line of text every 10 s. */
export class ProgressBar {
  readonly #fields: ProgressBarFields;
  readonly #width: number | undefined;
  #shownAt: number;
  #isDrawn = false;

  constructor(fields: ProgressBarFields) {
    this.#fields = fields;
    this.#width = fields.output.width;
    this.#shownAt = this.#width === undefined ? fields.clock.now() : -Infinity;
  }

  show(progress: DeadLetterProgress): void {
    const { output, clock } = this.#fields;
    const now = clock.now();
    if (now - this.#shownAt < (this.#width === undefined ? linePeriodMs : redrawMs)) return;
    this.#shownAt = now;
    if (this.#width === undefined) return output.write(`${this.#text(progress)}\n`);
    this.#isDrawn = true;
    // Some terminals wrap a line that fills the last column.
    const line = `${this.#bar(progress)}  ${this.#text(progress)}`.slice(0, this.#width - 1);
    output.write(`\r\u001b[K${line}`);
  }

  /** Erases the bar. */
  end(): void {
    if (this.#isDrawn) this.#fields.output.write('\r\u001b[K');
    this.#isDrawn = false;
  }

  #bar({ seen, done }: DeadLetterProgress): string {
    const { total, max } = this.#fields;
    const share = Math.min(1, Math.max(seen / Math.max(total, 1), done / max));
    const bar = '#'.repeat(Math.round(share * barWidth)).padEnd(barWidth, '.');
    return `[${bar}] ${String(Math.floor(share * 100)).padStart(3)} %`;
  }

  #text({ seen, matched, done }: DeadLetterProgress): string {
    const { total, done: doneText } = this.#fields;
    const counted = doneText === undefined ? `${matched} match` : `${done} ${doneText}`;
    return `${seen} of ${total} scanned, ${counted}`;
  }
}
