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
  #suspended = 0;
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
    this.#pauseIfFull();
  }

  remove(bytes: number): void {
    this.#messages--;
    this.#bytes -= bytes;
    this.#resumeIfFree();
  }

  /** A message that waits between attempts makes place for another, but its body stays in memory. */
  suspend(change: 1 | -1): void {
    this.#suspended += change;
    if (change === 1) this.#resumeIfFree();
    else this.#pauseIfFull();
  }

  #pauseIfFull(): void {
    const { pauseAtMessages, pauseAtBytes } = this.#limits;
    if (this.#full || (this.#active < pauseAtMessages && this.#bytes < pauseAtBytes)) return;
    this.#full = true;
    this.#onFull();
  }

  #resumeIfFree(): void {
    const { resumeAtMessages, pauseAtBytes } = this.#limits;
    if (!this.#full || this.#active > resumeAtMessages || this.#bytes > pauseAtBytes / 2) return;
    this.#full = false;
    this.#onCapacity();
  }

  get #active(): number {
    return this.#messages - this.#suspended;
  }
}
