/**
 * After so many drains in microtasks one waits for the event loop: cycling messages must not starve
 * timers.
 */
const microtaskDrains = 1_000;

/** Captured when the module loads, so that fake timers of a test do not stop the broker. */
const nextTurn = setImmediate;

/** Delivers items in order and asynchronously: each after the call stack that posted it has returned. */
export class Mailbox<T> {
  readonly #deliver: (item: T) => void;
  #items: T[] = [];
  /** Index of the first item that is not delivered yet. */
  #next = 0;
  #scheduled = false;
  #drains = 0;

  constructor(deliver: (item: T) => void) {
    this.#deliver = deliver;
  }

  post(item: T): void {
    this.#items.push(item);
    this.#schedule();
  }

  /** Removes and returns the items that are not delivered yet. */
  withdraw(): T[] {
    const rest = this.#items.slice(this.#next);
    this.#items = [];
    this.#next = 0;
    return rest;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#drains += 1;
    if (this.#drains % microtaskDrains === 0) nextTurn(this.#drain);
    else queueMicrotask(this.#drain);
  }

  readonly #drain = (): void => {
    this.#scheduled = false;
    // Items posted by a delivery wait for the next drain: messages that cycle would make this loop endless.
    const end = this.#items.length;
    try {
      while (this.#next < Math.min(end, this.#items.length)) this.#deliver(this.#items[this.#next++]!);
    } finally {
      this.#items = this.#items.slice(this.#next);
      this.#next = 0;
      if (this.#items.length > 0) this.#schedule();
    }
  };
}
