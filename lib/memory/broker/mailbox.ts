/** After this many deliveries in microtasks one waits for the event loop, so that messages going in circles cannot starve timers. */
const microtasksInARow = 1_000;

/** Taken when the module loads: a test that fakes the global must not stop the broker. */
const laterTurn = setImmediate;

/** Hands items over in order, each after the stack that posted it has unwound. */
export class Mailbox<T> {
  readonly #deliver: (item: T) => void;
  #items: T[] = [];
  /** Index of the first item not handed over. */
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

  /** Takes back what has not been handed over. */
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
    if (this.#drains % microtasksInARow === 0) laterTurn(this.#drain);
    else queueMicrotask(this.#drain);
  }

  readonly #drain = (): void => {
    this.#scheduled = false;
    // What a delivery posts waits for the next drain; else an endless circle would be an endless loop.
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
