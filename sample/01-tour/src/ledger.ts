import type { StorkContext } from 'nestjs-stork';
import type { Entry, Outcome } from './outcome.js';
import type { OutcomeFile } from './outcome-file.js';

/** What the ledger wants to know of a message. */
type Told = Pick<StorkContext, 'messageId' | 'attempt'>;

const idPrefix = 'line-';

/** The id that a line's message travels with; dead letters keep it. */
export function messageIdOf(line: number): string {
  return `${idPrefix}${line}`;
}

/**
 * One outcome for each line. A broker may bring a message again, after a crash or because its sender was in doubt: the same outcome
 * a second time changes nothing. Another one, or none, is a mistake of the tour or of the library, and is told.
 */
export class Ledger {
  /** Called after every line with the number of lines that have an outcome. */
  onEntry: (count: number) => void = () => {};
  readonly #entries: Map<number, Entry>;
  readonly #file: OutcomeFile | undefined;
  readonly #doubts: string[] = [];
  #repeats = 0;
  #waiting: { readonly total: number; readonly wake: () => void; readonly wait: () => void } | undefined;

  /** With a file it begins with what is in there. */
  constructor(file?: OutcomeFile) {
    this.#file = file;
    this.#entries = new Map(file?.read().map((entry) => [entry.line, entry]));
  }

  /** Messages that came again. */
  get repeats(): number {
    return this.#repeats;
  }

  /** For a handler: true if the message's line has its outcome, so that nothing is left to do. */
  isRepeat(messageId: string | undefined): boolean {
    const isKnown = this.#entries.has(lineOf(messageId));
    if (isKnown) this.#repeats++;
    return isKnown;
  }

  /** Once it has returned, the outcome outlives this process, if there is a file. */
  record({ messageId, attempt }: Told, outcome: Outcome, why: string): void {
    const line = lineOf(messageId);
    const before = this.#entries.get(line);
    if (!Number.isInteger(line)) {
      this.#doubts.push(
        `a message came that is no line of the file: ${messageId ?? 'without an id'}, ${outcome}`,
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
      this.#doubts.push(`line ${line} came out twice: ${before.outcome}, then ${outcome} (${why})`);
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

  /** Everything that speaks against "each line exactly once". Empty: all is well. */
  doubts(total: number): readonly string[] {
    const missing = Array.from({ length: total }, (_, i) => i + 1).filter((line) => !this.#entries.has(line));
    const told = missing.slice(0, 20).join(', ') + (missing.length > 20 ? ', …' : '');
    return [
      ...this.#doubts,
      ...(missing.length > 0 ? [`${missing.length} of ${total} lines have no outcome: ${told}`] : []),
    ];
  }
}

/** NaN: it is no line of the file. */
function lineOf(messageId: string | undefined): number {
  return Number(messageId?.startsWith(idPrefix) ? messageId.slice(idPrefix.length) : NaN);
}
