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
import type { StorkLogger } from '../../core/runtime/logger.js';
import type { FetchedRecord, RecordToSend } from '../client/client.js';
import type { Producer } from '../produce/producer.js';
import { carriedHeaders, headersToSend } from '../records.js';
import type { RetryTopics } from '../topics/retry-topics.js';

export interface RepublisherFields {
  readonly producer: Pick<Producer, 'publish'>;
  readonly retries: RetryTopics;
  readonly group: string;
  readonly patternHeader: string | undefined;
  readonly reconnect: BackoffOptions;
  /** Shown before log lines. */
  readonly name: string;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
  /** Makes what is missing beside a source. */
  declareManagedTopics(source: string): Promise<void>;
}

/** A record of a retry topic that has to wait on. */
export interface WaitingOn {
  readonly source: string;
  /** Of the topic that it comes from. */
  readonly delayMs: number;
  readonly record: FetchedRecord;
  /** Milliseconds since the epoch. */
  readonly dueAt: number;
  /** Aborts when its partition is not ours any more. */
  readonly signal: AbortSignal;
}

type Written = Pick<RecordToSend, 'key' | 'value'>;

/** Writes messages to the companions of their source: dead letters, and those that come back later. Keys keep their bytes. */
export class Republisher {
  readonly #fields: RepublisherFields;

  constructor(fields: RepublisherFields) {
    this.#fields = fields;
  }

  /** Where the headers are too many for the topic, those that nobody needs for reading it are left out. */
  async write(source: string, delivery: Delivery, copy: RepublishedMessage): Promise<void> {
    const { group, retries, patternHeader } = this.#fields;
    const topic =
      copy.to === 'redelivery'
        ? retries.topicFor(source, copy.delayMs)
        : (copy.target ?? deadLetterTopic(source));
    const record = delivery.message.raw as FetchedRecord;
    const headers = republishedHeaders(copy, group);
    try {
      await this.#writeTo(topic, source, record, headers);
    } catch (error) {
      if (!(error instanceof MessageTooLargeError)) throw error;
      await this.#writeTo(topic, source, record, neededHeaders(headers, patternHeader));
    }
  }

  /** As it is, uncounted, to where it waits for the rest of its time. False where that is over first, or the partition is lost. */
  async waitOn({ source, delayMs, record, dueAt, signal }: WaitingOn): Promise<boolean> {
    const { clock, random, reconnect, retries, logger, name } = this.#fields;
    const headers = carriedHeaders(record.headers ?? {});
    for (let attempt = 1; !signal.aborted && clock.now() < dueAt; attempt++) {
      const topic = retries.topicFor(source, dueAt - clock.now(), delayMs);
      try {
        await this.#writeTo(topic, source, record, headers);
        return true;
      } catch (error) {
        if (attempt === 1)
          logger.warn(`${name}: a message waits in memory, not in ${topic}: ${messageOf(error)}`);
        const restMs = Math.max(0, dueAt - clock.now());
        await sleep(clock, Math.min(backoffMs(attempt, reconnect, random), restMs), signal);
      }
    }
    return false;
  }

  /** Retention counts from the current time: by the message's own it could be deleted while it waits. */
  async #writeTo(
    topic: string,
    source: string,
    { key, value }: Written,
    headers: MessageHeaders,
  ): Promise<void> {
    const { producer, clock } = this.#fields;
    const record = { key, value, headers: headersToSend(headers), timestamp: clock.now() };
    try {
      await producer.publish(topic, record);
    } catch (error) {
      if (!(error instanceof NoRouteError)) throw error;
      // Somebody deleted it.
      await this.#fields.declareManagedTopics(source);
      await producer.publish(topic, record);
    }
  }
}

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
