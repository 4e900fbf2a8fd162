import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import type { Entry } from './outcome.js';

/** Keeps the ledger of a shop that may be killed at any moment: one line of JSON for each outcome. */
export class OutcomeFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** What earlier processes have written. */
  read(): readonly Entry[] {
    if (!existsSync(this.#path)) return [];
    const lines = readFileSync(this.#path, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
    return lines.map((line, i) => {
      try {
        return JSON.parse(line) as Entry;
      } catch (error) {
        throw new Error(`line ${i + 1} of ${this.#path} is no outcome of the tour`, { cause: error });
      }
    });
  }

  /** Synchronous: when it returns, the operating system has the line, and the end of this process cannot take it back. */
  append(entry: Entry): void {
    appendFileSync(this.#path, `${JSON.stringify(entry)}\n`);
  }
}
