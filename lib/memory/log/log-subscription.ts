import type { Subscription } from '../../core/port/driver.js';
import type {
  ConsumerGroup,
  GroupMember,
  Membership,
  TopicPartition,
} from '../broker/topics/consumer-group.js';
import { OwnedPartition, type PartitionContext } from './owned-partition.js';

/** How long a rebalance waits for running handlers. */
const revokeTimeoutMs = 5_000;

export interface LogSubscriptionFields extends PartitionContext {
  readonly fromBeginning: boolean;
  /** Names of the topics that it reads now, retry topics included. */
  topics(): readonly string[];
}

/** One member of a consumer group. Each assignment of a partition has its own session. */
export class LogSubscription implements Subscription {
  readonly #fields: LogSubscriptionFields;
  readonly #group: ConsumerGroup;
  readonly #partitions = new Map<string, OwnedPartition>();
  readonly #member: GroupMember;
  #membership: Membership | undefined;
  #stopListening: (() => void) | undefined;
  /** Topics created after the member joined: they are read from the beginning. */
  readonly #createdAfterJoin = new Set<string>();
  #lastStep: Promise<unknown> = Promise.resolve();
  #paused = false;
  #stopped = false;

  constructor(fields: LogSubscriptionFields) {
    this.#fields = fields;
    this.#group = fields.broker.group(fields.group);
    this.#member = {
      topics: () => fields.topics(),
      quiesce: () => fields.sink.quiesce(),
      assigned: (partitions) => this.#assigned(partitions),
      revokeTimeoutMs,
    };
  }

  get isConsuming(): boolean {
    return !this.#paused && !this.#stopped;
  }

  reads(topic: string): boolean {
    return this.#fields.topics().includes(topic);
  }

  open(): Promise<void> {
    return this.#serialize(() => this.#join());
  }

  async #join(): Promise<void> {
    this.#stopListening = this.#fields.broker.onTopic((topic) => this.#noticeTopic(topic));
    this.#membership = await this.#group.join(this.#member);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    for (const partition of this.#partitions.values()) partition.dispatch();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopListening?.();
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#serialize(() => this.#leave());
  }

  /**
   * After the loss of the connection: uncommitted records are delivered again, here or at another member.
   */
  async reopen(): Promise<void> {
    // Synchronous: what is settled from here on must not be committed.
    this.#endPartitions();
    await this.#serialize(async () => {
      this.#stopListening?.();
      await this.#leave();
      if (!this.#stopped) await this.#join();
    });
  }

  /**
   * Joins and leaves run one after another: a member that joins while it leaves would be in the group
   * twice.
   */
  #serialize(step: () => Promise<void>): Promise<void> {
    const done = this.#lastStep.then(step);
    this.#lastStep = done.catch(() => {});
    return done;
  }

  #endPartitions(): void {
    for (const partition of this.#partitions.values()) partition.end();
    this.#partitions.clear();
  }

  async #leave(): Promise<void> {
    this.#endPartitions();
    await this.#membership?.leave();
    this.#membership = undefined;
  }

  #noticeTopic(topic: string): void {
    if (!this.reads(topic)) return;
    this.#createdAfterJoin.add(topic);
    if (this.#fields.consumedTopicOf(topic).delayMs === undefined) this.#fields.declareManagedTopics(topic);
    void this.#membership?.refresh();
  }

  /**
   * Kept partitions continue. The sessions of revoked ones end: their records cannot be settled any more.
   */
  #assigned(assignment: readonly TopicPartition[]): void {
    const assigned = new Set(assignment.map(partitionName));
    for (const [name, partition] of this.#partitions) {
      if (assigned.has(name)) continue;
      partition.end();
      this.#partitions.delete(name);
    }
    for (const { topic, partition } of assignment) {
      const name = partitionName({ topic, partition });
      if (this.#partitions.has(name)) continue;
      this.#partitions.set(name, this.#newPartition(topic, partition));
    }
    this.#fields.sink.resume();
    this.resume();
  }

  #newPartition(topic: string, partition: number): OwnedPartition {
    const { broker, fromBeginning, consumedTopicOf } = this.#fields;
    const committed = this.#group.committed(topic, partition);
    // Records of a retry topic were consumed by this group before, so none of them is skipped.
    const isFromBeginning =
      fromBeginning || this.#createdAfterJoin.has(topic) || consumedTopicOf(topic).delayMs !== undefined;
    const startOffset = committed ?? (isFromBeginning ? 0 : broker.topic(topic)!.endOffset(partition));
    return new OwnedPartition({
      ...this.#fields,
      topic,
      partition,
      startOffset,
      completedBefore: this.#group.completedAbove(topic, partition),
      commit: (offset, completedAbove) =>
        this.#group.commit(topic, partition, offset, this.#member, completedAbove),
      isConsuming: () => this.isConsuming,
    });
  }
}

function partitionName({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`;
}
