/**
 * Marks that decide when a source is paused and when it goes on; between the two nothing changes, so it does
 * not flap.
 */
export interface InFlightLimits {
  /** Messages taken and not settled at which the source is paused. */
  readonly pauseAtMessages: number;
  /** Messages at or below which it goes on. */
  readonly resumeAtMessages: number;
  /** Bytes of bodies at which the source is paused; it goes on at half of them. */
  readonly pauseAtBytes: number;
}

const defaultHighBytes = 64 * 1024 * 1024;

/** Enough waiting work that handlers of many keys never run dry, little enough to give back in a moment. */
export function inFlightLimits(concurrency: number): InFlightLimits {
  const pauseAtMessages = Math.max(64, concurrency * 4);
  return {
    pauseAtMessages: pauseAtMessages,
    resumeAtMessages: pauseAtMessages / 2,
    pauseAtBytes: defaultHighBytes,
  };
}

/** Counts what was taken from a source and is not settled, and says when a mark is crossed. */
export class InFlight {
  readonly #marks: InFlightLimits;
  readonly #onFull: () => void;
  readonly #onRoom: () => void;
  #messages = 0;
  #bytes = 0;
  #full = false;

  constructor(marks: InFlightLimits, onFull: () => void, onRoom: () => void) {
    this.#marks = marks;
    this.#onFull = onFull;
    this.#onRoom = onRoom;
  }

  get messages(): number {
    return this.#messages;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(bytes: number): void {
    this.#messages++;
    this.#bytes += bytes;
    if (this.#full) return;
    if (this.#messages < this.#marks.pauseAtMessages && this.#bytes < this.#marks.pauseAtBytes) return;
    this.#full = true;
    this.#onFull();
  }

  remove(bytes: number): void {
    this.#messages--;
    this.#bytes -= bytes;
    if (!this.#full) return;
    if (this.#messages > this.#marks.resumeAtMessages || this.#bytes > this.#marks.pauseAtBytes / 2) return;
    this.#full = false;
    this.#onRoom();
  }
}
