import type { DeadLetterNotice } from 'nestjs-stork';

/** One run of a handler. */
export interface Attempt {
  readonly order: string;
  readonly attempt: number;
  readonly maxAttempts: number;
  /** Undefined: it went well. */
  readonly error: Error | undefined;
  /** Milliseconds since the chapter began. */
  readonly atMs: number;
}

/** Longer than anything here takes, with a broker on a slow machine. */
const patienceMs = 30_000;

/** Shows what happens while it happens, and remembers it: what the story claims is looked up here. */
export class Diary {
  #runs: Attempt[] = [];
  #letters: DeadLetterNotice[] = [];
  #begun = performance.now();
  /** Whoever waits looks again at everything that is noted. */
  #look = (): void => {};
  #isTrue = true;

  /** Of this chapter, in the order in which they ended. */
  get runs(): readonly Attempt[] {
    return this.#runs;
  }

  get deadLetters(): readonly DeadLetterNotice[] {
    return this.#letters;
  }

  /** False as soon as one claim did not hold. */
  get isTrue(): boolean {
    return this.#isTrue;
  }

  open(broker: string): void {
    say(`\n  What happens when a handler fails\n  broker: ${broker}`);
  }

  begin(chapter: string): void {
    this.#runs = [];
    this.#letters = [];
    this.#begun = performance.now();
    say(`\n  ${chapter}`);
  }

  noteRun(run: Omit<Attempt, 'atMs'>): void {
    const atMs = this.#elapsedMs();
    this.#runs.push({ ...run, atMs });
    const { order, attempt, maxAttempts, error } = run;
    this.note(
      `${order}  run ${attempt} of at most ${maxAttempts}: ${error === undefined ? 'done' : String(error)}`,
    );
    this.#look();
  }

  noteLetter(deadLetter: DeadLetterNotice): void {
    this.#letters.push(deadLetter);
    this.note(`a dead letter is kept, reason "${deadLetter.reason}"`);
    this.#look();
  }

  note(what: string): void {
    say(`    ${String(Math.round(this.#elapsedMs())).padStart(5)} ms  ${what}`);
  }

  claim(claim: string, isTrue: boolean): void {
    this.#isTrue &&= isTrue;
    say(`    ${isTrue ? '      ok' : '  NOT SO'}  ${claim}`);
  }

  /**
   * Resolves when it has come about.
   *
   * @throws Error when it has not for half a minute
   */
  async until(what: string, hasComeAbout: () => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const inVain = new Error(`${what}: waited ${patienceMs / 1_000} s in vain`);
      const timer = setTimeout(() => reject(inVain), patienceMs);
      this.#look = () => {
        if (!hasComeAbout()) return;
        clearTimeout(timer);
        resolve();
      };
      this.#look();
    });
  }

  #elapsedMs(): number {
    return performance.now() - this.#begun;
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
