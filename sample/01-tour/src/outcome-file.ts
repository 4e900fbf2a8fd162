import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import type { Entry } from './outcome.js';

/** Keeps the outcomes of a shop that may be killed at any moment, one line of JSON each. */
export class OutcomeFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** The outcomes that earlier processes wrote. */
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

  /** Synchronous, so the operating system has the line when it returns and a SIGKILL cannot lose it. */
  append(entry: Entry): void {
    appendFileSync(this.#path, `${JSON.stringify(entry)}\n`);
  }
}
