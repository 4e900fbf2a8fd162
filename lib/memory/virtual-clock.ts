import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CancelTimer, StorkClock } from '../core/runtime/clock.js';

interface Timer {
  readonly dueMs: number;
  readonly fire: () => void;
}

/** Turns of the event loop between two timers: enough for a handler's promises to reach its next timer. */
const turnsBetweenTimers = 5;

/**
 * A clock that advances only when `advance` is called, so that tests of delays take no time and are
 * deterministic.
 *
 * @publicApi
 */
export class VirtualClock implements StorkClock {
  #nowMs: number;
  /** In order of creation: timers that are due at the same time fire in this order. */
  readonly #timers = new Set<Timer>();

  constructor(startMs: number = Date.UTC(2026, 0, 1)) {
    this.#nowMs = startMs;
  }

  now(): number {
    return this.#nowMs;
  }

  setTimer(delayMs: number, fire: () => void): CancelTimer {
    const timer: Timer = { dueMs: this.#nowMs + Math.max(0, delayMs), fire };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  /** Number of timers that have neither fired nor been cancelled; 0 after a clean close. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /**
   * Advances by `ms` and fires each timer that becomes due, timers set by other timers included.
   * Resolves after the promises that the timers started have had several turns of the event loop.
   * `advance(0)` fires what is due now.
   */
  async advance(ms: number): Promise<void> {
    if (!(ms >= 0 && ms < Infinity)) throw new RangeError(`Time cannot advance by ${ms} ms`);
    const endMs = this.#nowMs + ms;
    await settle();
    for (let timer = this.#nextDue(endMs); timer !== undefined; timer = this.#nextDue(endMs)) {
      this.#timers.delete(timer);
      this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
      timer.fire();
      await settle();
    }
    this.#nowMs = Math.max(this.#nowMs, endMs);
  }

  #nextDue(endMs: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs <= endMs && (next === undefined || timer.dueMs < next.dueMs)) next = timer;
    }
    return next;
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < turnsBetweenTimers; turn++) await nextTurn();
}
