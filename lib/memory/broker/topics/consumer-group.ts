import type { StorkClock } from '../../../core/runtime/clock.js';
import { settlesWithin } from '../../../core/runtime/with-timeout.js';
import type { OffsetRange } from '../../../driver-kit/log/offset-tracker.js';
import { assignPartitions } from './assign-partitions.js';
import type { MemoryTopic, TopicPartition } from './memory-topic.js';

export type { TopicPartition } from './memory-topic.js';

export interface GroupMember {
  /** Names subscribed to now. */
  topics(): readonly string[];
  /** Starts no more handlers; resolves when none runs. */
  quiesce(): Promise<void>;
  /** The whole of what the member owns from now on; follows each `halt`. Must not throw. */
  assigned(partitions: readonly TopicPartition[]): void;
  /** How long a rebalance waits for `halt`. */
  readonly revokeTimeoutMs: number;
}

export interface Membership {
  /** Gives the partitions up at once; resolves when the other members have them. */
  leave(): Promise<void>;
  /** What `topics()` gives has changed. Resolves after the rebalance. */
  refresh(): Promise<void>;
}

/** What a group needs of its broker. */
export interface GroupHost {
  readonly clock: StorkClock;
  topic(name: string): MemoryTopic | undefined;
}

interface Committed {
  readonly offset: number;
  readonly settledAbove: readonly OffsetRange[];
}

const none: readonly OffsetRange[] = [];

interface Seat {
  readonly member: GroupMember;
  /** Resolves when the member leaves, so that nobody waits for it. */
  readonly left: Promise<void>;
  markLeft(): void;
}

/**
 * A Kafka consumer group with eager rebalances: all members halt, partitions are dealt again, all go on. A partition stays where it
 * is as long as that is even.
 */
export class ConsumerGroup {
  readonly id: string;
  readonly #host: GroupHost;
  readonly #seats = new Map<GroupMember, Seat>();
  readonly #owners = new Map<string, Map<number, GroupMember>>();
  readonly #offsets = new Map<string, Map<number, Committed>>();
  /** Ends with the last rebalance asked for; never rejects. */
  #last: Promise<void> = Promise.resolve();
  /** Asked for and not begun: further requests join it. */
  #waiting: Promise<void> | undefined;
  #closed = false;

  constructor(id: string, host: GroupHost) {
    this.id = id;
    this.#host = host;
  }

  get members(): number {
    return this.#seats.size;
  }

  async join(member: GroupMember): Promise<Membership> {
    if (this.#closed) throw new Error(`Group "${this.id}" is closed`);
    if (this.#seats.has(member)) throw new Error(`This member is in group "${this.id}" already`);
    const seat = newSeat(member);
    this.#seats.set(member, seat);
    await this.#rebalance();
    return {
      leave: () => this.#leave(seat),
      refresh: () => (this.#sits(seat) ? this.#rebalance() : Promise.resolve()),
    };
  }

  /** Where the group goes on reading; undefined before the first commit. */
  committed(topic: string, partition: number): number | undefined {
    return this.#offsets.get(topic)?.get(partition)?.offset;
  }

  /** What above the committed offset need not be read again. */
  settledAbove(topic: string, partition: number): readonly OffsetRange[] {
    return this.#offsets.get(topic)?.get(partition)?.settledAbove ?? none;
  }

  /** False, and nothing happens, when the partition is not the member's now. */
  commit(
    topic: string,
    partition: number,
    offset: number,
    member: GroupMember,
    settledAbove: readonly OffsetRange[] = none,
  ): boolean {
    if (this.#owners.get(topic)?.get(partition) !== member) return false;
    const offsets = this.#offsets.get(topic) ?? new Map<number, Committed>();
    offsets.set(partition, { offset, settledAbove });
    this.#offsets.set(topic, offsets);
    return true;
  }

  /** Records not committed, over all partitions. */
  lag(topicName: string): number {
    const topic = this.#host.topic(topicName);
    let lag = 0;
    for (let partition = 0; partition < (topic?.partitionCount ?? 0); partition++) {
      lag += topic!.endOffset(partition) - (this.committed(topicName, partition) ?? 0);
    }
    return lag;
  }

  /** A topic was created, has grown or was deleted. Resolves after the rebalance, if any member reads it. */
  topicChanged(topic: string): Promise<void> {
    if (this.#host.topic(topic) === undefined) this.#offsets.delete(topic);
    const concerned = [...this.#seats.keys()].some((member) => member.topics().includes(topic));
    return concerned || this.#owners.has(topic) ? this.#rebalance() : Promise.resolve();
  }

  /** All members are out; none is waited for or told. */
  close(): void {
    this.#closed = true;
    for (const seat of this.#seats.values()) seat.markLeft();
    this.#seats.clear();
    this.#owners.clear();
  }

  async #leave(seat: Seat): Promise<void> {
    if (!this.#sits(seat)) return;
    this.#seats.delete(seat.member);
    for (const owners of this.#owners.values()) {
      for (const [partition, owner] of owners) if (owner === seat.member) owners.delete(partition);
    }
    seat.markLeft();
    await this.#rebalance();
  }

  #sits(seat: Seat): boolean {
    return this.#seats.get(seat.member) === seat;
  }

  /** One at a time. What is asked for during a rebalance is one more after it, however often it is asked for. */
  #rebalance(): Promise<void> {
    if (this.#waiting === undefined) {
      this.#waiting = this.#last.then(() => {
        this.#waiting = undefined;
        return this.#run();
      });
      this.#last = this.#waiting.catch(() => {});
    }
    return this.#waiting;
  }

  async #run(): Promise<void> {
    const seats = [...this.#seats.values()];
    await Promise.all(seats.map((seat) => this.#quiesce(seat)));
    // Who joined meanwhile has not halted for this round and is dealt in by the next.
    const present = seats.filter((seat) => this.#sits(seat)).map((seat) => seat.member);
    const assignments = this.#deal(present);
    for (const member of present) member.assigned(assignments.get(member) ?? []);
  }

  async #quiesce(seat: Seat): Promise<void> {
    const quiesced = (async () => seat.member.quiesce())().catch(() => {});
    await settlesWithin(this.#host.clock, Promise.race([quiesced, seat.left]), seat.member.revokeTimeoutMs);
  }

  #deal(members: readonly GroupMember[]): ReadonlyMap<GroupMember, readonly TopicPartition[]> {
    const assignments = new Map<GroupMember, TopicPartition[]>(members.map((member) => [member, []]));
    const subscriptions = new Map(members.map((member) => [member, new Set(member.topics())]));
    const before = new Map(this.#owners);
    this.#owners.clear();
    for (const topic of new Set([...subscriptions.values()].flatMap((names) => [...names]))) {
      const shares = assignPartitions(
        this.#host.topic(topic)?.partitionCount ?? 0,
        members.filter((member) => subscriptions.get(member)!.has(topic)),
        (partition) => before.get(topic)?.get(partition),
        (member) => assignments.get(member)!.length,
      );
      const owners = new Map<number, GroupMember>();
      for (const [member, partitions] of shares) {
        for (const partition of partitions) {
          owners.set(partition, member);
          assignments.get(member)!.push({ topic, partition });
        }
      }
      this.#owners.set(topic, owners);
    }
    return assignments;
  }
}

function newSeat(member: GroupMember): Seat {
  let markLeft = (): void => {};
  const left = new Promise<void>((resolve) => {
    markLeft = resolve;
  });
  return { member, left, markLeft: () => markLeft() };
}
