import { Injectable } from '@nestjs/common';

/** What can become of a line, in the order in which the story tells it. */
export const outcomes = ['handled', 'duplicate', 'malformed', 'invalid', 'unknown', 'failed'] as const;
export type Outcome = (typeof outcomes)[number];

export interface Entry {
  /** Number of the line in the file, from 1. */
  readonly line: number;
  readonly outcome: Outcome;
  /** What happened, or why it did not. */
  readonly why: string;
}

const idPrefix = 'line-';

/** The id that a line's message travels with; dead letters keep it. */
export function messageIdOf(line: number): string {
  return `${idPrefix}${line}`;
}

/** One outcome for each line. A second one, or none, is a mistake of the tour or of the library, and is told. */
@Injectable()
export class Ledger {
  /** Called after every line with the number of lines that have an outcome. */
  onEntry: (count: number) => void = () => {};
  readonly #entries = new Map<number, Entry>();
  readonly #doubts: string[] = [];
  #waiting: { readonly total: number; readonly wake: () => void } | undefined;

  record(messageId: string | undefined, outcome: Outcome, why: string): void {
    const line = Number(messageId?.startsWith(idPrefix) ? messageId.slice(idPrefix.length) : NaN);
    const before = this.#entries.get(line);
    if (!Number.isInteger(line)) {
      this.#doubts.push(
        `a message came that is no line of the file: ${messageId ?? 'without an id'}, ${outcome}`,
      );
    } else if (before !== undefined) {
      this.#doubts.push(`line ${line} came out twice: ${before.outcome}, then ${outcome} (${why})`);
    } else {
      this.#entries.set(line, { line, outcome, why });
      this.onEntry(this.#entries.size);
      if (this.#waiting?.total === this.#entries.size) this.#waiting.wake();
    }
  }

  /** Resolves when each of `total` lines has an outcome, or when `limitMs` is over. */
  async whenComplete(total: number, limitMs: number): Promise<void> {
    if (this.#entries.size >= total) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      const wake = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.#waiting = { total, wake };
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
