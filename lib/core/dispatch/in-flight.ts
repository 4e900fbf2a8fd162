/**
 * When a source is paused and resumed. The thresholds differ, so that the source does not alternate with
 * each message.
 */
export interface InFlightLimits {
  /** Unsettled messages at which the source is paused. */
  readonly pauseAtMessages: number;
  /** Unsettled messages at or below which the source is resumed. */
  readonly resumeAtMessages: number;
  /** Bytes of unsettled bodies at which the source is paused; it is resumed at half of this. */
  readonly pauseAtBytes: number;
}

const defaultPauseAtBytes = 64 * 1024 * 1024;

/**
 * Enough waiting messages to keep handlers of many keys busy, few enough to requeue quickly at shutdown.
 */
export function inFlightLimits(concurrency: number): InFlightLimits {
  const pauseAtMessages = Math.max(64, concurrency * 4);
  return {
    pauseAtMessages: pauseAtMessages,
    resumeAtMessages: pauseAtMessages / 2,
    pauseAtBytes: defaultPauseAtBytes,
  };
}

/** Counts the unsettled messages of a source and reports when a threshold is crossed. */
export class InFlight {
  readonly #limits: InFlightLimits;
  readonly #onFull: () => void;
  readonly #onCapacity: () => void;
  #messages = 0;
  #bytes = 0;
  #full = false;

  constructor(limits: InFlightLimits, onFull: () => void, onCapacity: () => void) {
    this.#limits = limits;
    this.#onFull = onFull;
    this.#onCapacity = onCapacity;
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
    if (this.#messages < this.#limits.pauseAtMessages && this.#bytes < this.#limits.pauseAtBytes) return;
    this.#full = true;
    this.#onFull();
  }

  remove(bytes: number): void {
    this.#messages--;
    this.#bytes -= bytes;
    if (!this.#full) return;
    if (this.#messages > this.#limits.resumeAtMessages || this.#bytes > this.#limits.pauseAtBytes / 2) return;
    this.#full = false;
    this.#onCapacity();
  }
}
