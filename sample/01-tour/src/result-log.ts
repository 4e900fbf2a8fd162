import type { StorkContext } from 'nestjs-stork';
import type { Entry, Outcome } from './outcome.js';
import type { OutcomeFile } from './outcome-file.js';

/** What the log reads of a message. */
type Message = Pick<StorkContext, 'messageId' | 'attempt'>;

const idPrefix = 'line-';

/** The message id of a line; its dead letter has the same. */
export function messageIdOf(line: number): string {
  return `${idPrefix}${line}`;
}

/**
 * One outcome per line. A broker may redeliver a message after a crash, and a sender may repeat it when a
 * confirmation was lost: the same outcome a second time changes nothing. A different outcome, or none, is an
 * error of the tour or of the library, and is reported.
 */
export class ResultLog {
  /** Called after every line with the number of lines that have an outcome. */
  onEntry: (count: number) => void = () => {};
  readonly #entries: Map<number, Entry>;
  readonly #file: OutcomeFile | undefined;
  readonly #inconsistencies: string[] = [];
  #repeats = 0;
  #waiting: { readonly total: number; readonly wake: () => void; readonly wait: () => void } | undefined;

  /** With a file, begins with the entries of the file. */
  constructor(file?: OutcomeFile) {
    this.#file = file;
    this.#entries = new Map(file?.read().map((entry) => [entry.line, entry]));
  }

  /** Messages that were delivered more than once. */
  get repeats(): number {
    return this.#repeats;
  }

  /** For a handler: true if the message's line has its outcome already. */
  isRepeat(messageId: string | undefined): boolean {
    const isKnown = this.#entries.has(lineOf(messageId));
    if (isKnown) this.#repeats++;
    return isKnown;
  }

  /** With a file, the outcome survives this process once the call has returned. */
  record({ messageId, attempt }: Message, outcome: Outcome, why: string): void {
    const line = lineOf(messageId);
    const before = this.#entries.get(line);
    if (!Number.isInteger(line)) {
      this.#inconsistencies.push(
        `a message is no line of the file: ${messageId ?? 'without an id'}, ${outcome}`,
      );
    } else if (before === undefined) {
      const entry = { line, outcome, why, attempt };
      this.#file?.append(entry);
      this.#entries.set(line, entry);
      this.onEntry(this.#entries.size);
      if (this.#waiting?.total === this.#entries.size) this.#waiting.wake();
      else this.#waiting?.wait();
    } else if (before.outcome === outcome) {
      this.#repeats++;
    } else {
      this.#inconsistencies.push(
        `line ${line} has two outcomes: ${before.outcome}, then ${outcome} (${why})`,
      );
    }
  }

  /** Resolves when each of `total` lines has an outcome, or when there was no new one for `limitMs`. */
  async whenComplete(total: number, limitMs: number): Promise<void> {
    if (this.#entries.size >= total) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      const wake = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.#waiting = { total, wake, wait: () => timer.refresh() };
    });
  }

  /** In the order of the file. */
  entries(): readonly Entry[] {
    return [...this.#entries.values()].toSorted((a, b) => a.line - b.line);
  }

  count(outcome: Outcome): number {
    return this.entries().filter((entry) => entry.outcome === outcome).length;
  }

  /** Violations of "each line has exactly one outcome"; empty if there is none. */
  inconsistencies(total: number): readonly string[] {
    const missing = Array.from({ length: total }, (_, i) => i + 1).filter((line) => !this.#entries.has(line));
    const shown = missing.slice(0, 20).join(', ') + (missing.length > 20 ? ', …' : '');
    return [
      ...this.#inconsistencies,
      ...(missing.length > 0 ? [`${missing.length} of ${total} lines have no outcome: ${shown}`] : []),
    ];
  }
}

/** NaN for an id that is no line of the file. */
function lineOf(messageId: string | undefined): number {
  return Number(messageId?.startsWith(idPrefix) ? messageId.slice(idPrefix.length) : NaN);
}
