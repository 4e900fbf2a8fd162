import type { DeadLetterNotice } from 'nestjs-stork';

/** One attempt of a handler. */
export interface Attempt {
  readonly order: string;
  readonly attempt: number;
  readonly maxAttempts: number;
  /** Undefined: it succeeded. */
  readonly error: Error | undefined;
  /** Milliseconds since the chapter began. */
  readonly atMs: number;
}

/** Longer than any chapter takes on a slow machine with a broker. */
const waitLimitMs = 30_000;

/** Prints events as they happen and keeps them, so that the claims of the report can be checked. */
export class EventLog {
  #attempts: Attempt[] = [];
  #deadLetters: DeadLetterNotice[] = [];
  #begun = performance.now();
  /** Called after each event: `until` checks its condition again. */
  #check = (): void => {};
  #allHold = true;

  /** Attempts of this chapter, in the order in which they ended. */
  get attempts(): readonly Attempt[] {
    return this.#attempts;
  }

  get deadLetters(): readonly DeadLetterNotice[] {
    return this.#deadLetters;
  }

  /** False as soon as a claim did not hold. */
  get allHold(): boolean {
    return this.#allHold;
  }

  open(broker: string): void {
    say(`\n  What happens when a handler fails\n  broker: ${broker}`);
  }

  begin(chapter: string): void {
    this.#attempts = [];
    this.#deadLetters = [];
    this.#begun = performance.now();
    say(`\n  ${chapter}`);
  }

  noteAttempt(made: Omit<Attempt, 'atMs'>): void {
    const atMs = this.#elapsedMs();
    this.#attempts.push({ ...made, atMs });
    const { order, attempt, maxAttempts, error } = made;
    this.note(
      `${order}  attempt ${attempt} of at most ${maxAttempts}: ${error === undefined ? 'done' : String(error)}`,
    );
    this.#check();
  }

  noteDeadLetter(deadLetter: DeadLetterNotice): void {
    this.#deadLetters.push(deadLetter);
    this.note(`dead-lettered, reason "${deadLetter.reason}"`);
    this.#check();
  }

  note(what: string): void {
    say(`    ${String(Math.round(this.#elapsedMs())).padStart(5)} ms  ${what}`);
  }

  claim(claim: string, holds: boolean): void {
    this.#allHold &&= holds;
    say(`    ${holds ? '      ok' : '  FAILED'}  ${claim}`);
  }

  /**
   * Resolves when the condition holds.
   *
   * @throws Error when it does not hold after half a minute
   */
  async until(what: string, holds: () => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timedOut = new Error(`${what}: not within ${waitLimitMs / 1_000} s`);
      const timer = setTimeout(() => reject(timedOut), waitLimitMs);
      this.#check = () => {
        if (!holds()) return;
        clearTimeout(timer);
        resolve();
      };
      this.#check();
    });
  }

  #elapsedMs(): number {
    return performance.now() - this.#begun;
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
