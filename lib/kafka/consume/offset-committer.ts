import type { CancelTimer, StorkClock } from '../../core/runtime/clock.js';
import type { KafkaConsumer } from '../client/client.js';
import type { CommitUrgency, OwnedPartition } from './owned-partition.js';

/** A commit is sent after this time or after this number of settled records, whichever is reached first. */
const commitDelayMs = { soon: 100, later: 1_000 };
const maxSettledRecords = 1_000;

export interface OffsetCommitterFields {
  readonly consumer: Pick<KafkaConsumer, 'commit'>;
  /** The partitions that are assigned in this tick. */
  readonly partitions: () => Iterable<OwnedPartition>;
  readonly clock: StorkClock;
  /** @param failures consecutive failed commits */
  failed(error: unknown, failures: number): void;
}

/** Commits settled offsets by time and by count, one commit at a time. */
export class OffsetCommitter {
  readonly #fields: OffsetCommitterFields;
  #settledRecords = 0;
  #timer: CancelTimer | undefined;
  /** Whether the timer was set with `soon`. */
  #isSoon = false;
  /** The commit in flight; never rejects. */
  #current = Promise.resolve(true);
  /** The commit after it, which takes everything that is settled when it begins. */
  #next: Promise<boolean> | undefined;
  #failures = 0;
  #stopped = false;

  constructor(fields: OffsetCommitterFields) {
    this.#fields = fields;
  }

  scheduleCommit(urgency: CommitUrgency): void {
    if (this.#stopped) return;
    if (urgency === 'now' || ++this.#settledRecords >= maxSettledRecords) void this.flush();
    else if (this.#timer === undefined || (urgency === 'soon' && !this.#isSoon)) this.#flushLater(urgency);
  }

  #flushLater(urgency: 'soon' | 'later'): void {
    this.#timer?.();
    this.#isSoon = urgency === 'soon';
    this.#timer = this.#fields.clock.setTimer(commitDelayMs[urgency], () => void this.flush());
  }

  /** Resolves when a commit of everything that is settled now has ended; to false if it failed. */
  flush(): Promise<boolean> {
    this.#settledRecords = 0;
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
    const assigned = [...partitions()];
    const commits = assigned.flatMap((partition) => partition.prepareCommit() ?? []);
    if (commits.length === 0 || this.#stopped) return true;
    try {
      await consumer.commit(commits.map(({ offset }) => offset));
      for (const { committed } of commits) committed();
      this.#failures = 0;
      return true;
    } catch (error) {
      for (const partition of assigned) partition.commitFailed();
      this.#fields.failed(error, ++this.#failures);
      this.scheduleCommit('later');
      return false;
    }
  }
}
