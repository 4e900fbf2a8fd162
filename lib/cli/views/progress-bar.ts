import type { StorkClock } from '../../core/runtime/clock.js';
import type { DeadLetterProgress } from '../../core/dead-letter/admin/dead-letter-operations.js';
import type { Output } from '../host.js';

const redrawMs = 100;
const barWidth = 24;

export interface ProgressBarFields {
  readonly output: Output;
  readonly clock: StorkClock;
  /** Letters to look at, and to work on at most. */
  readonly total: number;
  readonly max: number;
  /** What is done to them, e.g. `replayed`. */
  readonly done: string;
}

/** One line on a terminal that is drawn over and over; nothing at all where there is none. */
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
    // A line as wide as the terminal would wrap on some.
    output.write(`\r\u001b[K${this.#line(progress).slice(0, output.width - 1)}`);
  }

  /** Leaves nothing behind. */
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
    return `[${bar}] ${String(Math.floor(share * 100)).padStart(3)} %  ${seen} of ${total} looked at, ${done} ${doneText}`;
  }
}
