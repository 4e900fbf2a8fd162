export interface Connection {
  close(): void;
}

/** The open connections of a broker; tests drop them all at once. */
export class Connections {
  readonly #open = new Set<() => void>();

  open(onLost: () => void): Connection {
    // A new function for each connection: two connections can have the same callback.
    const lose = (): void => onLost();
    this.#open.add(lose);
    return { close: () => void this.#open.delete(lose) };
  }

  /** Calls `onLost` of every open connection once. Connections opened by such a callback stay open. */
  dropAll(): void {
    const lost = [...this.#open];
    this.#open.clear();
    for (const lose of lost) lose();
  }

  closeAll(): void {
    this.#open.clear();
  }
}
