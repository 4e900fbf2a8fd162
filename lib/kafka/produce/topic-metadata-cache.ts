import type { StorkClock } from '../../core/runtime/clock.js';
import { validTopicName } from '../../driver-kit/log/topic-names.js';
import { KafkaClientError, type KafkaAdmin } from '../client/client.js';

/** A topic that exists is asked for again after this long: it may have got partitions. */
const refreshAfterMs = 60_000;
/** A topic that does not exist may be created at any moment; and what was just asked need not be asked again. */
const trustedForMs = 1_000;

interface KnownTopic {
  readonly partitions: number;
  askedMs: number;
}

/** Which topics there are and how many partitions they have. */
export class TopicMetadataCache {
  readonly #admin: Pick<KafkaAdmin, 'partitionCounts'>;
  readonly #clock: StorkClock;
  readonly #known = new Map<string, KnownTopic>();
  /** When each was found missing, oldest first. */
  readonly #missing = new Map<string, number>();
  readonly #asking = new Map<string, Promise<number | undefined>>();

  constructor(admin: Pick<KafkaAdmin, 'partitionCounts'>, clock: StorkClock) {
    this.#admin = admin;
    this.#clock = clock;
  }

  /** Number of partitions as far as it is known, without waiting. What was known for long is asked again beside. */
  known(topic: string): number | undefined {
    const known = this.#known.get(topic);
    if (known === undefined) return undefined;
    const nowMs = this.#clock.now();
    if (nowMs - known.askedMs >= refreshAfterMs) {
      known.askedMs = nowMs;
      // What is known holds until something better is.
      this.#ask(topic).catch(() => {});
    }
    return known.partitions;
  }

  /** Number of partitions; undefined where there is no such topic. Rejects with `KafkaClientError`. */
  async partitions(topic: string): Promise<number | undefined> {
    return this.known(topic) ?? (this.#isMissing(topic) ? undefined : await this.#ask(topic));
  }

  /** The same, asked anew unless it was asked within the last second. */
  async refreshed(topic: string): Promise<number | undefined> {
    const known = this.#known.get(topic);
    if (known === undefined) return this.partitions(topic);
    if (this.#clock.now() - known.askedMs < trustedForMs) return known.partitions;
    return this.#ask(topic);
  }

  async exists(topic: string): Promise<boolean> {
    return (await this.partitions(topic)) !== undefined;
  }

  /** It may be gone, or new: the next who needs it asks, and an answer that is on its way is not kept. */
  forget(topic: string): void {
    this.#known.delete(topic);
    this.#missing.delete(topic);
    this.#asking.delete(topic);
  }

  #isMissing(topic: string): boolean {
    if (!validTopicName.test(topic)) return true;
    const sinceMs = this.#missing.get(topic);
    return sinceMs !== undefined && this.#clock.now() - sinceMs < trustedForMs;
  }

  #ask(topic: string): Promise<number | undefined> {
    const running = this.#asking.get(topic);
    if (running !== undefined) return running;
    const asking = this.#count(topic).then(
      (partitions) => {
        if (this.#endAsking(topic, asking)) this.#remember(topic, partitions);
        return partitions;
      },
      (error: unknown) => {
        this.#endAsking(topic, asking);
        throw error;
      },
    );
    this.#asking.set(topic, asking);
    return asking;
  }

  async #count(topic: string): Promise<number | undefined> {
    try {
      return (await this.#admin.partitionCounts([topic])).get(topic);
    } catch (error) {
      if (error instanceof KafkaClientError && error.failure === 'unknown-topic') return undefined;
      throw error;
    }
  }

  /** False where the topic was forgotten in between. */
  #endAsking(topic: string, asking: Promise<number | undefined>): boolean {
    if (this.#asking.get(topic) !== asking) return false;
    return this.#asking.delete(topic);
  }

  #remember(topic: string, partitions: number | undefined): void {
    const nowMs = this.#clock.now();
    this.#missing.delete(topic);
    if (partitions !== undefined) {
      this.#known.set(topic, { partitions, askedMs: nowMs });
      return;
    }
    this.#known.delete(topic);
    this.#forgetOldMissing(nowMs);
    this.#missing.set(topic, nowMs);
  }

  /** Names of topics come from outside, e.g. as reply addresses: those that do not exist must not pile up. */
  #forgetOldMissing(nowMs: number): void {
    for (const [topic, sinceMs] of this.#missing) {
      if (nowMs - sinceMs < trustedForMs) return;
      this.#missing.delete(topic);
    }
  }
}
