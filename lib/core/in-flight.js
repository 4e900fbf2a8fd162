const defaultHighBytes = 64 * 1024 * 1024;
/** Enough waiting work that handlers of many keys never run dry, little enough to give back in a moment. */
export function marksFor(concurrency) {
  const highMessages = Math.max(64, concurrency * 4);
  return { highMessages, lowMessages: highMessages / 2, highBytes: defaultHighBytes };
}
/** Counts what was taken from a source and is not settled, and says when a mark is crossed. */
export class InFlight {
  #marks;
  #onFull;
  #onRoom;
  #messages = 0;
  #bytes = 0;
  #full = false;
  constructor(marks, onFull, onRoom) {
    this.#marks = marks;
    this.#onFull = onFull;
    this.#onRoom = onRoom;
  }
  get messages() {
    return this.#messages;
  }
  get bytes() {
    return this.#bytes;
  }
  add(bytes) {
    this.#messages++;
    this.#bytes += bytes;
    if (this.#full) return;
    if (this.#messages < this.#marks.highMessages && this.#bytes < this.#marks.highBytes) return;
    this.#full = true;
    this.#onFull();
  }
  remove(bytes) {
    this.#messages--;
    this.#bytes -= bytes;
    if (!this.#full) return;
    if (this.#messages > this.#marks.lowMessages || this.#bytes > this.#marks.highBytes / 2) return;
    this.#full = false;
    this.#onRoom();
  }
}
