import { randomUUID } from 'node:crypto';
import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError, messageOf } from '../../core/runtime/errors.js';
import { readLogReply } from '../../driver-kit/log/log-reply.js';
import type { LogReplyAddress } from '../../driver-kit/log/log-record.js';
import type { ReplyListener } from '../../core/port/driver.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import { assignOne } from '../consume/assigner.js';
import {
  KafkaClientError,
  type ConsumerSettings,
  type FetchedRecord,
  type KafkaClient,
  type KafkaConsumer,
  type TopicPartition,
} from '../client/client.js';
import { nestContentType } from '../wire.js';

export interface ReplyInboxFields {
  readonly client: KafkaClient;
  readonly topic: string;
  /** Prefix of the inbox's group id, so that prefix ACLs of the user's group cover it. */
  readonly groupPrefix: string;
  readonly settings: Omit<ConsumerSettings, 'group' | 'topics' | 'assign'>;
  /** Kind of a reply without a `stork-reply` header: Nest's servers send each item of a stream like that. */
  readonly untaggedReplyKind: 'value' | 'item';
  readonly reconnect: BackoffOptions;
  readonly name: string;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
}

/**
 * Reads one partition of the reply topic, in a group with this consumer as its only member: no rebalance
 * assigns the partition to another process. The start offset is read before the join, because "latest" is
 * resolved with the first fetch and a reply produced before that would be lost. Offsets are not committed:
 * older replies belong to requests of earlier processes.
 */
export class KafkaReplyInbox {
  readonly #fields: ReplyInboxFields;
  readonly #listener: ReplyListener;
  readonly #group: string;
  #partition: TopicPartition = { topic: '', partition: 0 };
  #nextOffset = 0;
  #consumer: KafkaConsumer | undefined;
  #hasJoined = false;
  readonly #closeSignal = new AbortController();

  constructor(fields: ReplyInboxFields, listener: ReplyListener) {
    this.#fields = fields;
    this.#listener = listener;
    this.#group = `${fields.groupPrefix}.reply.${randomUUID()}`;
  }

  get address(): LogReplyAddress {
    return this.#partition;
  }

  /** False while it joins its group. */
  get isReading(): boolean {
    return this.#hasJoined;
  }

  /** Resolves when every reply that is sent to `address` from now on will be received. */
  async open(): Promise<void> {
    const { client, topic, random } = this.#fields;
    const ends = await client.admin.fetchOffsets(topic);
    const chosen = ends[Math.floor(random() * ends.length)];
    if (chosen === undefined) throw new ConnectionLostError(`the reply topic ${topic} has no partition yet`);
    this.#partition = { topic, partition: chosen.partition };
    this.#nextOffset = chosen.high;
    await this.#joinWithRetries(isPermanent);
  }

  async close(): Promise<void> {
    this.#closeSignal.abort();
    await this.#consumer?.close();
    // The broker keeps an empty group for minutes.
    await this.#fields.client.admin.deleteGroup(this.#group).catch(() => {});
  }

  /**
   * Joins the group, with a back-off between attempts: its coordinator may be unavailable, and a new
   * cluster has none at first. Rejects on a permanent error, and when the inbox is closed.
   */
  async #joinWithRetries(isPermanent: (error: unknown) => boolean): Promise<void> {
    const { logger, name } = this.#fields;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#join();
        if (attempt > 1) logger.log(`${name}: replies are read`);
        return;
      } catch (error) {
        if (isPermanent(error)) throw error;
        if (attempt === 1) logger.warn(`${name}: replies cannot be read yet: ${messageOf(error)}`);
        await this.#closeConsumerAndWait(attempt);
        if (this.#closeSignal.signal.aborted) throw error;
      }
    }
  }

  async #join(): Promise<void> {
    const { client, settings } = this.#fields;
    const partition = this.#partition;
    const consumer = client.openConsumer(
      { ...settings, group: this.#group, topics: [partition.topic], assign: assignOne(partition) },
      {
        beforeJoin: async () => {},
        assigned: () => consumer.seek(partition, this.#nextOffset),
        fetched: (_, records, nextOffset) => this.#fetched(records, nextOffset),
        outOfRange: () => this.#seekToEarliest(),
        // A failed first join both rejects and crashes: `#joinWithRetries` repeats it, not `#rejoin`.
        crashed: (error) => {
          if (this.#consumer === consumer && this.#hasJoined) void this.#rejoin(error);
        },
      },
    );
    this.#consumer = consumer;
    this.#hasJoined = false;
    await consumer.start();
    this.#hasJoined = true;
    // `close` was called during the join, and may have closed the consumer before it was started.
    if (this.#closeSignal.signal.aborted) await consumer.close();
  }

  #fetched(records: readonly FetchedRecord[], nextOffset: number): void {
    for (const { offset, headers = {}, value } of records) {
      if (Number(offset) < this.#nextOffset) continue;
      const reply = readLogReply({ headers, value }, this.#fields.untaggedReplyKind);
      this.#listener.onReply({ ...reply, contentType: reply.contentType ?? nestContentType(reply.body) });
    }
    this.#nextOffset = Math.max(this.#nextOffset, nextOffset);
  }

  /** The topic was truncated or recreated: all of its records are newer than those read before. */
  async #seekToEarliest(): Promise<void> {
    const ends = await this.#fields.client.admin.fetchOffsets(this.#partition.topic);
    this.#nextOffset = ends.find(({ partition }) => partition === this.#partition.partition)?.low ?? 0;
    this.#consumer?.seek(this.#partition, this.#nextOffset);
  }

  /** Pending requests keep waiting: replies stay in the topic and are read after the rejoin. */
  async #rejoin(cause: Error): Promise<void> {
    const { logger, name } = this.#fields;
    logger.warn(`${name}: the reply consumer crashed and is restarted: ${messageOf(cause)}`);
    this.#hasJoined = false;
    await this.#closeConsumerAndWait(1);
    if (this.#closeSignal.signal.aborted) return;
    // No error is permanent here: requests are pending. Rejects only when the inbox is closed.
    await this.#joinWithRetries(() => false).catch(() => {});
  }

  async #closeConsumerAndWait(attempt: number): Promise<void> {
    const { clock, random, reconnect } = this.#fields;
    const crashed = this.#consumer;
    this.#consumer = undefined;
    await crashed?.close();
    await sleep(clock, backoffMs(attempt, reconnect, random), this.#closeSignal.signal);
  }
}

/** Only an unavailable coordinator, or its failure during the join, is a temporary error. */
function isPermanent(error: unknown): boolean {
  return !(error instanceof KafkaClientError) || !['unavailable', 'unconfirmed'].includes(error.failure);
}
