/** Whichever comes first. */
const longestWaitMs = 1_000;
const mostRecords = 1_000;
/** Commits what is settled, by time and by count, one commit after the other. */
export class OffsetCommitter {
  #fields;
  #settled = 0;
  #timer;
  /** The commit under way; never rejects. */
  #current = Promise.resolve();
  /** The one after it, which takes along everything settled until then. */
  #next;
  #stopped = false;
  constructor(fields) {
    this.#fields = fields;
  }
  /** Something is to be committed. `now`: somebody waits for it. */
  note(now) {
    if (this.#stopped) return;
    if (now || ++this.#settled >= mostRecords) void this.flush();
    else this.#timer ??= this.#fields.clock.setTimer(longestWaitMs, () => void this.flush());
  }
  /** Resolves when a commit of everything settled until now has ended, well or not. */
  flush() {
    this.#settled = 0;
    this.#timer?.();
    this.#timer = undefined;
    this.#next ??= this.#current.then(() => {
      this.#next = undefined;
      this.#current = this.#commit();
      return this.#current;
    });
    return this.#next;
  }
  stop() {
    this.#stopped = true;
    this.#timer?.();
  }
  async #commit() {
    const { consumer, partitions } = this.#fields;
    const owned = [...partitions()];
    const commits = owned.flatMap((partition) => partition.commit() ?? []);
    if (commits.length === 0 || this.#stopped) return;
    try {
      await consumer.commit(commits.map(({ offset }) => offset));
      for (const { confirmed } of commits) confirmed();
    } catch (error) {
      for (const partition of owned) partition.commitFailed();
      this.#fields.failed(error);
      this.note(false);
    }
  }
}
