import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import type { RepublishedMessage, Delivery } from '../../core/port/delivery.js';
import { MessageTooLargeError, messageOf, NoRouteError } from '../../core/runtime/errors.js';
import {
  emptyHeaders,
  headerNames,
  reservedPrefix,
  type MessageHeaders,
} from '../../core/message/headers.js';
import { republishedHeaders, kafkaHeaders } from '../../driver-kit/log/log-record.js';
import { deadLetterTopic } from '../../driver-kit/log/topic-names.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import type { FetchedRecord, RecordToSend } from '../client/client.js';
import type { Producer } from '../produce/producer.js';
import { headersAsSent, headersToSend } from '../records.js';
import type { RetryTopics } from '../topics/retry-topics.js';

export interface RepublisherFields {
  readonly producer: Pick<Producer, 'publish'>;
  readonly retries: RetryTopics;
  readonly group: string;
  readonly patternHeader: string | undefined;
  readonly reconnect: BackoffOptions;
  /** Prefix of log lines. */
  readonly name: string;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  /** Creates missing retry and dead letter topics of the source. */
  declareManagedTopics(source: string): Promise<void>;
}

/** A record of a retry topic that is due later than its topic's delay. */
export interface RemainingDelay {
  readonly source: string;
  /** Of the retry topic that the record was read from. */
  readonly delayMs: number;
  readonly record: FetchedRecord;
  /** Milliseconds since the Unix epoch. */
  readonly dueAt: number;
  /** Aborts when the partition is revoked. */
  readonly signal: AbortSignal;
}

type RecordPayload = Pick<RecordToSend, 'key' | 'value'>;

/** Publishes messages to the retry and dead letter topics of their source. Key and value bytes stay. */
export class Republisher {
  readonly #fields: RepublisherFields;

  constructor(fields: RepublisherFields) {
    this.#fields = fields;
  }

  /**
   * Publishes a redelivery or dead letter. If it is too large, headers of other libraries are dropped.
   */
  async republish(source: string, delivery: Delivery, message: RepublishedMessage): Promise<void> {
    const { group, retries, patternHeader } = this.#fields;
    const topic =
      message.to === 'redelivery'
        ? retries.topicFor(source, message.delayMs)
        : (message.target ?? deadLetterTopic(source));
    const record = delivery.message.raw as FetchedRecord;
    const headers = republishedHeaders(message, group);
    try {
      await this.#publish(topic, source, record, headers);
    } catch (error) {
      if (!(error instanceof MessageTooLargeError)) throw error;
      await this.#publish(topic, source, record, neededHeaders(headers, patternHeader));
    }
  }

  /**
   * Publishes the record unchanged, as the same attempt, to the retry topic of its remaining delay: one
   * more hop. False if the record becomes due or its partition is revoked before a publish succeeds.
   */
  async forwardRemainingDelay(remaining: RemainingDelay): Promise<boolean> {
    const { source, delayMs, record, dueAt, signal } = remaining;
    const { clock, random, reconnect, retries, logger, name } = this.#fields;
    const headers = headersAsSent(record.headers ?? {});
    for (let attempt = 1; !signal.aborted && clock.now() < dueAt; attempt++) {
      const topic = retries.topicFor(source, dueAt - clock.now(), delayMs);
      try {
        await this.#publish(topic, source, record, headers);
        return true;
      } catch (error) {
        if (attempt === 1)
          logger.warn(
            `${name}: a delayed message could not be published to ${topic} and waits in memory: ${messageOf(error)}`,
          );
        const remainingMs = Math.max(0, dueAt - clock.now());
        await sleep(clock, Math.min(backoffMs(attempt, reconnect, random), remainingMs), signal);
      }
    }
    return false;
  }

  /**
   * The record gets the current time: by the original one, retention could delete the record before it is
   * read.
   */
  async #publish(
    topic: string,
    source: string,
    { key, value }: RecordPayload,
    headers: MessageHeaders,
  ): Promise<void> {
    const { producer, clock } = this.#fields;
    const record = { key, value, headers: headersToSend(headers), timestamp: clock.now() };
    try {
      await producer.publish(topic, record);
    } catch (error) {
      if (!(error instanceof NoRouteError)) throw error;
      // The topic was deleted.
      await this.#fields.declareManagedTopics(source);
      await producer.publish(topic, record);
    }
  }
}

/** Headers without which the message could not be read, routed or answered. */
function neededHeaders(headers: MessageHeaders, patternHeader: string | undefined): MessageHeaders {
  const needed = emptyHeaders();
  const names = new Set<string | undefined>([
    headerNames.contentType,
    patternHeader,
    ...Object.values(kafkaHeaders),
  ]);
  for (const name of Object.keys(headers)) {
    if (name.startsWith(reservedPrefix) || names.has(name)) needed[name] = headers[name];
  }
  return needed;
}
