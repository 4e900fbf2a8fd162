import type { StorkClock } from '../../../core/runtime/clock.js';
import { ConsumerGroup, type GroupHost } from './consumer-group.js';
import { MemoryTopic } from './memory-topic.js';

/** The Kafka half of the broker: topics, and the consumer groups that rebalance when topics change. */
export class TopicStore implements GroupHost {
  readonly clock: StorkClock;
  readonly #topics = new Map<string, MemoryTopic>();
  readonly #groups = new Map<string, ConsumerGroup>();
  readonly #listeners = new Set<(name: string) => void>();

  constructor(clock: StorkClock) {
    this.clock = clock;
  }

  get names(): readonly string[] {
    return [...this.#topics.keys()];
  }

  create(name: string, partitions: number): MemoryTopic {
    const existing = this.#topics.get(name);
    const topic = existing ?? new MemoryTopic(name, partitions);
    const grown = topic.grow(partitions);
    this.#topics.set(name, topic);
    if (existing === undefined || grown) this.#changed(name);
    if (existing === undefined) for (const listener of this.#listeners) queueMicrotask(() => listener(name));
    return topic;
  }

  topic(name: string): MemoryTopic | undefined {
    return this.#topics.get(name);
  }

  delete(name: string): void {
    this.#topics.get(name)?.close();
    if (this.#topics.delete(name)) this.#changed(name);
  }

  group(id: string): ConsumerGroup {
    const group = this.#groups.get(id) ?? new ConsumerGroup(id, this);
    this.#groups.set(id, group);
    return group;
  }

  onCreated(listener: (name: string) => void): () => void {
    // A new function for each call: the same listener can be added twice.
    const notify = (name: string): void => {
      if (this.#listeners.has(notify)) listener(name);
    };
    this.#listeners.add(notify);
    return () => void this.#listeners.delete(notify);
  }

  close(): void {
    this.#listeners.clear();
    for (const group of this.#groups.values()) group.close();
    for (const topic of this.#topics.values()) topic.close();
    this.#topics.clear();
  }

  #changed(name: string): void {
    // A rebalance fails only in a callback of a member, which reports its failures itself.
    for (const group of this.#groups.values()) void group.topicChanged(name).catch(() => {});
  }
}
