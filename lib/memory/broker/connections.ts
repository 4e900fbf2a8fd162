export interface Connection {
  close(): void;
}

/** Who is connected, so that a test can cut everybody off. */
export class Connections {
  readonly #open = new Set<() => void>();

  open(onLost: () => void): Connection {
    // Its own function each time: one callback may serve two connections.
    const lose = (): void => onLost();
    this.#open.add(lose);
    return { close: () => void this.#open.delete(lose) };
  }

  /** Each connection hears of its loss once; one that is opened meanwhile stays. */
  dropAll(): void {
    const lost = [...this.#open];
    this.#open.clear();
    for (const lose of lost) lose();
  }

  closeAll(): void {
    this.#open.clear();
  }
}
