import type { StorkClock } from '../../core/runtime/clock.js';
import type { DeadLetterProgress } from '../../core/dead-letter/admin/dead-letter-operations.js';
import type { Output } from '../host.js';

const redrawMs = 100;
const barWidth = 24;

export interface ProgressBarFields {
  readonly output: Output;
  readonly clock: StorkClock;
  /** Number of stored dead letters, and the limit of those to replay or discard. */
  readonly total: number;
  readonly max: number;
  /** Past participle of the operation, e.g. `replayed`. */
  readonly done: string;
}

/** One line that is redrawn on a terminal; without a terminal nothing is written. */
export class ProgressBar {
  readonly #fields: ProgressBarFields;
  #drawnAt = -Infinity;

  constructor(fields: ProgressBarFields) {
    this.#fields = fields;
  }

  show(progress: DeadLetterProgress): void {
    const { output, clock } = this.#fields;
    const now = clock.now();
    if (output.width === undefined || now - this.#drawnAt < redrawMs) return;
    this.#drawnAt = now;
    // Some terminals wrap a line that fills the last column.
    output.write(`\r\u001b[K${this.#line(progress).slice(0, output.width - 1)}`);
  }

  /** Erases the line. */
  end(): void {
    if (this.#drawnAt === -Infinity) return;
    this.#drawnAt = -Infinity;
    this.#fields.output.write('\r\u001b[K');
  }

  #line({ seen, done }: DeadLetterProgress): string {
    const { total, max, done: doneText } = this.#fields;
    const share = Math.min(1, Math.max(seen / Math.max(total, 1), done / max));
    const filled = Math.round(share * barWidth);
    const bar = '#'.repeat(filled).padEnd(barWidth, '.');
    return `[${bar}] ${String(Math.floor(share * 100)).padStart(3)} %  ${seen} of ${total} scanned, ${done} ${doneText}`;
  }
}
