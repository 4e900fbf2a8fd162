import { findRetryTopics, retryTopic, type ConsumedTopic } from '../../driver-kit/log/topic-names.js';
import { RetryTopicDelays } from '../../driver-kit/log/retry-topic-delays.js';

/** Where messages of a group wait for their next run: for each of its sources a topic for each delay, and one that is never waited in. */
export class RetryTopics {
  readonly #group: string;
  readonly #delays: RetryTopicDelays;

  /** @param delaysMs rising, each from 1 */
  constructor(group: string, delaysMs: readonly number[]) {
    this.#group = group;
    this.#delays = new RetryTopicDelays(delaysMs);
  }

  round(delayMs: number): number | undefined {
    return this.#delays.roundUp(delayMs);
  }

  /** Those that a source must have, by their delays. */
  of(source: string): ReadonlyMap<string, number> {
    return new Map(
      this.#delays.topicDelaysMs.map((delayMs) => [retryTopic(source, this.#group, delayMs), delayMs]),
    );
  }

  /** Where a message waits that shall come back after `delayMs`. Without delays of our own it stays among those that wait for as long as it has. */
  topicFor(source: string, delayMs: number, ownDelayMs = delayMs): string {
    return retryTopic(source, this.#group, this.#delays.topicDelayFor(delayMs) ?? ownDelayMs);
  }

  /** Those among `names`. Those of delays that nobody asks for any more too: they may hold messages. */
  among(names: readonly string[], sources: readonly string[]): ReadonlyMap<string, ConsumedTopic> {
    return findRetryTopics(names, sources, this.#group);
  }
}
