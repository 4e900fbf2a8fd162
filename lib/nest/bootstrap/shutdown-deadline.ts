import type { StorkClock } from '../../core/runtime/clock.js';

/** Longest time limit of one step after the handlers, and largest part of a shutdown kept for these steps. */
const maxStepMs = 5_000;

/**
 * The time limit of a whole shutdown, from its first step until everything is closed. Handlers get all of
 * it but a reserve: a quarter, at most 5 s. Each later step gets at most half of what remains, so that a step
 * that hangs leaves time to the next one. Time that a step does not use remains.
 */
export class ShutdownDeadline {
  readonly #clock: StorkClock;
  readonly #limitMs: number;
  #endsAt = Infinity;

  constructor(clock: StorkClock, limitMs: number) {
    this.#clock = clock;
    this.#limitMs = limitMs;
  }

  /** Sets the deadline. Idempotent: Nest begins a worker's shutdown twice, by `close()` and by the hooks. */
  begin(): void {
    if (this.#endsAt === Infinity) this.#endsAt = this.#clock.now() + this.#limitMs;
  }

  get hasBegun(): boolean {
    return this.#endsAt !== Infinity;
  }

  /** Time for running handlers. */
  get handlersMs(): number {
    return Math.max(0, this.#remainingMs - Math.min(maxStepMs, Math.ceil(this.#limitMs / 4)));
  }

  /** Time for a step that others follow. Before the shutdown, e.g. in `StorkService.drain()`, 5 s. */
  get stepMs(): number {
    return Math.min(maxStepMs, Math.floor(this.#remainingMs / 2));
  }

  /** Time for the last step. */
  get lastStepMs(): number {
    return Math.min(maxStepMs, this.#remainingMs);
  }

  get #remainingMs(): number {
    return Math.max(0, this.#endsAt - this.#clock.now());
  }
}
