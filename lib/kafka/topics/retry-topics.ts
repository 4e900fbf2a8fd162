import { findRetryTopics, retryTopic, type ConsumedTopic } from '../../driver-kit/log/topic-names.js';
import { RetryTopicDelays } from '../../driver-kit/log/retry-topic-delays.js';

/**
 * Names of the retry topics of a group. Each source topic has one retry topic per delay, and one without
 * delay, to which dead letters are replayed.
 */
export class RetryTopics {
  readonly #group: string;
  readonly #delays: RetryTopicDelays;

  /** @param delaysMs ascending, each at least 1 */
  constructor(group: string, delaysMs: readonly number[]) {
    this.#group = group;
    this.#delays = new RetryTopicDelays(delaysMs);
  }

  /** The delay, rounded up to one that retry topics can provide; undefined without declared delays. */
  round(delayMs: number): number | undefined {
    return this.#delays.roundUp(delayMs);
  }

  /** Retry topics that the source topic must have, with their delays. */
  topicsOf(source: string): ReadonlyMap<string, number> {
    return new Map(
      this.#delays.topicDelaysMs.map((delayMs) => [retryTopic(source, this.#group, delayMs), delayMs]),
    );
  }

  /**
   * The retry topic for a message that is due in `delayMs`.
   *
   * @param currentDelayMs delay of the retry topic that the message comes from; its topic is used if no
   * delay is declared
   */
  topicFor(source: string, delayMs: number, currentDelayMs = delayMs): string {
    return retryTopic(source, this.#group, this.#delays.topicDelayFor(delayMs) ?? currentDelayMs);
  }

  /**
   * Retry topics among `names`, also those of delays that are no longer configured: they may hold messages.
   */
  findExisting(names: readonly string[], sources: readonly string[]): ReadonlyMap<string, ConsumedTopic> {
    return findRetryTopics(names, sources, this.#group);
  }
}
