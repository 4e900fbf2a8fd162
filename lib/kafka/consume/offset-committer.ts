import type { CancelTimer, StorkClock } from '../../core/runtime/clock.js';
import type { KafkaConsumer } from '../client/client.js';
import type { OwnedPartition, Urgency } from './owned-partition.js';

/** Whichever comes first. */
const waitsMs = { soon: 100, later: 1_000 };
const mostRecords = 1_000;

export interface OffsetCommitterFields {
  readonly consumer: Pick<KafkaConsumer, 'commit'>;
  /** Those that are ours in this tick. */
  readonly partitions: () => Iterable<OwnedPartition>;
  readonly clock: StorkClock;
  /** @param times in a row */
  failed(error: unknown, times: number): void;
}

/** Commits what is settled, by time and by count, one commit after the other. */
export class OffsetCommitter {
  readonly #fields: OffsetCommitterFields;
  #settled = 0;
  #timer: CancelTimer | undefined;
  /** What the timer is for. */
  #isSoon = false;
  /** The commit under way; never rejects. */
  #current = Promise.resolve(true);
  /** The one after it, which takes along everything settled until then. */
  #next: Promise<boolean> | undefined;
  /** In a row. */
  #failures = 0;
  #stopped = false;

  constructor(fields: OffsetCommitterFields) {
    this.#fields = fields;
  }

  /** Something is to be committed. */
  note(urgency: Urgency): void {
    if (this.#stopped) return;
    if (urgency === 'now' || ++this.#settled >= mostRecords) void this.flush();
    else if (this.#timer === undefined || (urgency === 'soon' && !this.#isSoon)) this.#flushIn(urgency);
  }

  #flushIn(urgency: 'soon' | 'later'): void {
    this.#timer?.();
    this.#isSoon = urgency === 'soon';
    this.#timer = this.#fields.clock.setTimer(waitsMs[urgency], () => void this.flush());
  }

  /** Resolves when a commit of everything settled until now has ended; false where it was refused. */
  flush(): Promise<boolean> {
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

  stop(): void {
    this.#stopped = true;
    this.#timer?.();
  }

  async #commit(): Promise<boolean> {
    const { consumer, partitions } = this.#fields;
    const owned = [...partitions()];
    const commits = owned.flatMap((partition) => partition.commit() ?? []);
    if (commits.length === 0 || this.#stopped) return true;
    try {
      await consumer.commit(commits.map(({ offset }) => offset));
      for (const { confirmed } of commits) confirmed();
      this.#failures = 0;
      return true;
    } catch (error) {
      for (const partition of owned) partition.commitFailed();
      this.#fields.failed(error, ++this.#failures);
      this.note('later');
      return false;
    }
  }
}
