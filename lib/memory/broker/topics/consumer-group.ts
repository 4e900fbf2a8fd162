import type { StorkClock } from '../../../core/runtime/clock.js';
import { settlesWithin } from '../../../core/runtime/with-timeout.js';
import type { OffsetRange } from '../../../driver-kit/log/offset-tracker.js';
import { assignPartitions } from './assign-partitions.js';
import type { MemoryTopic, TopicPartition } from './memory-topic.js';

export type { TopicPartition } from './memory-topic.js';

export interface GroupMember {
  /** Names of the topics that the member subscribes to now. */
  topics(): readonly string[];
  /** Starts no further handler; resolves when none is running. */
  quiesce(): Promise<void>;
  /** All partitions of the member from now on; called after each `quiesce`. Must not throw. */
  assigned(partitions: readonly TopicPartition[]): void;
  /** How long a rebalance waits for `quiesce`. */
  readonly revokeTimeoutMs: number;
}

export interface Membership {
  /** Revokes the partitions at once; resolves when they are assigned to the other members. */
  leave(): Promise<void>;
  /** Rebalances after a change of `topics()`. Resolves after the rebalance. */
  refresh(): Promise<void>;
}

/** The broker, as its groups call it. */
export interface GroupHost {
  readonly clock: StorkClock;
  topic(name: string): MemoryTopic | undefined;
}

interface Committed {
  readonly offset: number;
  readonly completedAbove: readonly OffsetRange[];
}

const none: readonly OffsetRange[] = [];

interface MemberEntry {
  readonly member: GroupMember;
  /** Resolves when the member leaves: a rebalance must not wait for it any longer. */
  readonly left: Promise<void>;
  markLeft(): void;
}

/**
 * A Kafka consumer group with eager rebalances: all members quiesce, all partitions are assigned again,
 * all members resume. The assignment is sticky: a partition stays with its member as long as the counts
 * stay even.
 */
export class ConsumerGroup {
  readonly id: string;
  readonly #host: GroupHost;
  readonly #entries = new Map<GroupMember, MemberEntry>();
  readonly #owners = new Map<string, Map<number, GroupMember>>();
  readonly #offsets = new Map<string, Map<number, Committed>>();
  /** Settles with the last requested rebalance; never rejects. */
  #lastRebalance: Promise<void> = Promise.resolve();
  /** A requested rebalance that has not started: further requests share it. */
  #pendingRebalance: Promise<void> | undefined;
  #closed = false;

  constructor(id: string, host: GroupHost) {
    this.id = id;
    this.#host = host;
  }

  get members(): number {
    return this.#entries.size;
  }

  async join(member: GroupMember): Promise<Membership> {
    if (this.#closed) throw new Error(`Group "${this.id}" is closed`);
    if (this.#entries.has(member)) throw new Error(`This member is in group "${this.id}" already`);
    const entry = newEntry(member);
    this.#entries.set(member, entry);
    await this.#rebalance();
    return {
      leave: () => this.#leave(entry),
      refresh: () => (this.#isMember(entry) ? this.#rebalance() : Promise.resolve()),
    };
  }

  /** The committed offset; undefined before the first commit. */
  committed(topic: string, partition: number): number | undefined {
    return this.#offsets.get(topic)?.get(partition)?.offset;
  }

  /** Offsets above the committed one that are completed and need not be read again. */
  completedAbove(topic: string, partition: number): readonly OffsetRange[] {
    return this.#offsets.get(topic)?.get(partition)?.completedAbove ?? none;
  }

  /** False, without effect, where the partition is not assigned to the member. */
  commit(
    topic: string,
    partition: number,
    offset: number,
    member: GroupMember,
    completedAbove: readonly OffsetRange[] = none,
  ): boolean {
    if (this.#owners.get(topic)?.get(partition) !== member) return false;
    const offsets = this.#offsets.get(topic) ?? new Map<number, Committed>();
    offsets.set(partition, { offset, completedAbove: completedAbove });
    this.#offsets.set(topic, offsets);
    return true;
  }

  /** Records without commit, in all partitions. */
  lag(topicName: string): number {
    const topic = this.#host.topic(topicName);
    let lag = 0;
    for (let partition = 0; partition < (topic?.partitionCount ?? 0); partition++) {
      lag += topic!.endOffset(partition) - (this.committed(topicName, partition) ?? 0);
    }
    return lag;
  }

  /**
   * Rebalances after a topic was created, got partitions or was deleted, if a member subscribes to it.
   */
  topicChanged(topic: string): Promise<void> {
    if (this.#host.topic(topic) === undefined) this.#offsets.delete(topic);
    const isSubscribed = [...this.#entries.keys()].some((member) => member.topics().includes(topic));
    return isSubscribed || this.#owners.has(topic) ? this.#rebalance() : Promise.resolve();
  }

  /** Removes all members without notifying them. */
  close(): void {
    this.#closed = true;
    for (const entry of this.#entries.values()) entry.markLeft();
    this.#entries.clear();
    this.#owners.clear();
  }

  async #leave(entry: MemberEntry): Promise<void> {
    if (!this.#isMember(entry)) return;
    this.#entries.delete(entry.member);
    for (const owners of this.#owners.values()) {
      for (const [partition, owner] of owners) if (owner === entry.member) owners.delete(partition);
    }
    entry.markLeft();
    await this.#rebalance();
  }

  #isMember(entry: MemberEntry): boolean {
    return this.#entries.get(entry.member) === entry;
  }

  /** Rebalances run one after another. All requests during a rebalance share the next one. */
  #rebalance(): Promise<void> {
    if (this.#pendingRebalance === undefined) {
      this.#pendingRebalance = this.#lastRebalance.then(() => {
        this.#pendingRebalance = undefined;
        return this.#runRebalance();
      });
      this.#lastRebalance = this.#pendingRebalance.catch(() => {});
    }
    return this.#pendingRebalance;
  }

  async #runRebalance(): Promise<void> {
    const entries = [...this.#entries.values()];
    await Promise.all(entries.map((entry) => this.#quiesce(entry)));
    // A member that joined meanwhile has not quiesced: the next rebalance includes it.
    const present = entries.filter((entry) => this.#isMember(entry)).map((entry) => entry.member);
    const assignments = this.#assign(present);
    for (const member of present) member.assigned(assignments.get(member) ?? []);
  }

  async #quiesce(entry: MemberEntry): Promise<void> {
    const quiesced = (async () => entry.member.quiesce())().catch(() => {});
    await settlesWithin(this.#host.clock, Promise.race([quiesced, entry.left]), entry.member.revokeTimeoutMs);
  }

  #assign(members: readonly GroupMember[]): ReadonlyMap<GroupMember, readonly TopicPartition[]> {
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

function newEntry(member: GroupMember): MemberEntry {
  let markLeft = (): void => {};
  const left = new Promise<void>((resolve) => {
    markLeft = resolve;
  });
  return { member, left, markLeft: () => markLeft() };
}
