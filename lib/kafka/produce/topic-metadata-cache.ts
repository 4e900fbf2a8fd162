import type { StorkClock } from '../../core/runtime/clock.js';
import { validTopicName } from '../../driver-kit/log/topic-names.js';
import { KafkaClientError, type KafkaAdmin } from '../client/client.js';

/** Age at which the partition count of a topic is fetched again: partitions may have been added. */
const refreshAfterMs = 60_000;
/**
 * Age up to which metadata counts as current, missing topics included. Short, because a topic may be
 * created at any moment.
 */
const freshForMs = 1_000;

interface CachedTopic {
  readonly partitionCount: number;
  fetchedAtMs: number;
}

/** Which topics exist, and how many partitions they have. */
export class TopicMetadataCache {
  readonly #admin: Pick<KafkaAdmin, 'partitionCounts'>;
  readonly #clock: StorkClock;
  readonly #known = new Map<string, CachedTopic>();
  /** When each topic was found missing, oldest first. */
  readonly #missingSinceMs = new Map<string, number>();
  readonly #requests = new Map<string, Promise<number | undefined>>();

  constructor(admin: Pick<KafkaAdmin, 'partitionCounts'>, clock: StorkClock) {
    this.#admin = admin;
    this.#clock = clock;
  }

  /**
   * The cached partition count, without waiting. An old entry is returned and refreshed in the background.
   */
  cachedPartitionCount(topic: string): number | undefined {
    const known = this.#known.get(topic);
    if (known === undefined) return undefined;
    const nowMs = this.#clock.now();
    if (nowMs - known.fetchedAtMs >= refreshAfterMs) {
      known.fetchedAtMs = nowMs;
      // A failed refresh keeps the old entry.
      this.#fetch(topic).catch(() => {});
    }
    return known.partitionCount;
  }

  /** The partition count; undefined if the topic does not exist. Rejects with `KafkaClientError`. */
  async partitionCount(topic: string): Promise<number | undefined> {
    return (
      this.cachedPartitionCount(topic) ?? (this.#isKnownMissing(topic) ? undefined : await this.#fetch(topic))
    );
  }

  /** Like `partitionCount`, but fetches it from the broker if the cached one is older than a second. */
  async currentPartitionCount(topic: string): Promise<number | undefined> {
    const known = this.#known.get(topic);
    if (known === undefined) return this.partitionCount(topic);
    if (this.#clock.now() - known.fetchedAtMs < freshForMs) return known.partitionCount;
    return this.#fetch(topic);
  }

  async exists(topic: string): Promise<boolean> {
    return (await this.partitionCount(topic)) !== undefined;
  }

  /**
   * The topic may have been deleted or created. The response of a request in flight is not cached either.
   */
  forget(topic: string): void {
    this.#known.delete(topic);
    this.#missingSinceMs.delete(topic);
    this.#requests.delete(topic);
  }

  #isKnownMissing(topic: string): boolean {
    if (!validTopicName.test(topic)) return true;
    const sinceMs = this.#missingSinceMs.get(topic);
    return sinceMs !== undefined && this.#clock.now() - sinceMs < freshForMs;
  }

  #fetch(topic: string): Promise<number | undefined> {
    const inFlight = this.#requests.get(topic);
    if (inFlight !== undefined) return inFlight;
    const request = this.#requestCount(topic).then(
      (partitionCount) => {
        if (this.#endRequest(topic, request)) this.#store(topic, partitionCount);
        return partitionCount;
      },
      (error: unknown) => {
        this.#endRequest(topic, request);
        throw error;
      },
    );
    this.#requests.set(topic, request);
    return request;
  }

  async #requestCount(topic: string): Promise<number | undefined> {
    try {
      return (await this.#admin.partitionCounts([topic])).get(topic);
    } catch (error) {
      if (error instanceof KafkaClientError && error.failure === 'unknown-topic') return undefined;
      throw error;
    }
  }

  /** False if `forget` was called for the topic while the request was in flight. */
  #endRequest(topic: string, request: Promise<number | undefined>): boolean {
    if (this.#requests.get(topic) !== request) return false;
    return this.#requests.delete(topic);
  }

  #store(topic: string, partitionCount: number | undefined): void {
    const nowMs = this.#clock.now();
    this.#missingSinceMs.delete(topic);
    if (partitionCount !== undefined) {
      this.#known.set(topic, { partitionCount, fetchedAtMs: nowMs });
      return;
    }
    this.#known.delete(topic);
    this.#expireMissing(nowMs);
    this.#missingSinceMs.set(topic, nowMs);
  }

  /**
   * Remote peers choose topic names, e.g. as reply topics: entries of missing topics must not accumulate.
   */
  #expireMissing(nowMs: number): void {
    for (const [topic, sinceMs] of this.#missingSinceMs) {
      if (nowMs - sinceMs < freshForMs) return;
      this.#missingSinceMs.delete(topic);
    }
  }
}
