import { randomUUID } from 'node:crypto';
import { backoffMs, type BackoffOptions, sleep, type StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError, messageOf } from '../../core/runtime/errors.js';
import { readLogReply } from '../../driver-kit/log/log-reply.js';
import type { LogReplyAddress } from '../../driver-kit/log/log-record.js';
import type { ReplyListener } from '../../core/port/driver.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
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
  /** Names of the groups begin with it. */
  readonly groupPrefix: string;
  readonly settings: Omit<ConsumerSettings, 'group' | 'topics' | 'assign'>;
  readonly bare: 'value' | 'item';
  readonly reconnect: BackoffOptions;
  readonly name: string;
  readonly clock: StorkClock;
  readonly random: () => number;
  readonly logger: StorkLogger;
}

/**
 * Reads one partition of the reply topic, alone in a group of its own: no rebalance can give it to somebody else. Where it begins is
 * known before it joins, so that no reply is missed, and it is never committed: what is older than this process is nobody's.
 */
export class KafkaReplyInbox {
  readonly #fields: ReplyInboxFields;
  readonly #listener: ReplyListener;
  readonly #group: string;
  #at: TopicPartition = { topic: '', partition: 0 };
  #next = 0;
  #consumer: KafkaConsumer | undefined;
  #hasJoined = false;
  #abort = new AbortController();

  constructor(fields: ReplyInboxFields, listener: ReplyListener) {
    this.#fields = fields;
    this.#listener = listener;
    this.#group = `${fields.groupPrefix}.reply.${randomUUID()}`;
  }

  get address(): LogReplyAddress {
    return this.#at;
  }

  /** False while it joins. */
  get isReading(): boolean {
    return this.#hasJoined;
  }

  /** Resolves when every reply to the address will be seen. */
  async open(): Promise<void> {
    const { client, topic, random } = this.#fields;
    const ends = await client.admin.ends(topic);
    const chosen = ends[Math.floor(random() * ends.length)];
    if (chosen === undefined) throw new ConnectionLostError(`the reply topic ${topic} has no partition yet`);
    this.#at = { topic, partition: chosen.partition };
    this.#next = chosen.high;
    await this.#joinAtLast(isEarlyAcked);
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#consumer?.close();
    // Without us the broker would keep it for minutes.
    await this.#fields.client.admin.deleteGroup(this.#group).catch(() => {});
  }

  /** Tries until it has joined, is closed or fails for good: a coordinator may be away, and a new cluster has none for a while. */
  async #joinAtLast(isEarlyAcked: (error: unknown) => boolean): Promise<void> {
    const { logger, name } = this.#fields;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#join();
        if (attempt > 1) logger.log(`${name}: replies are read`);
        return;
      } catch (error) {
        if (isEarlyAcked(error)) throw error;
        if (attempt === 1) logger.warn(`${name}: replies cannot be read yet: ${messageOf(error)}`);
        await this.#standBack(attempt);
        if (this.#abort.signal.aborted) throw error;
      }
    }
  }

  async #join(): Promise<void> {
    const { client, settings } = this.#fields;
    const at = this.#at;
    const consumer = client.openConsumer(
      { ...settings, group: this.#group, topics: [at.topic], assign: assignOne(at) },
      {
        beforeJoin: async () => {},
        assigned: () => consumer.seek(at, this.#next),
        fetched: (_, records, nextOffset) => this.#fetched(records, nextOffset),
        outOfRange: () => this.#outOfRange(),
        // A failed join both rejects and crashes; only what had joined is joined anew from here.
        crashed: (error) => {
          if (this.#consumer === consumer && this.#hasJoined) void this.#rejoin(error);
        },
      },
    );
    this.#consumer = consumer;
    this.#hasJoined = false;
    await consumer.start();
    this.#hasJoined = true;
    // Closed while it joined, nobody else knows of it.
    if (this.#abort.signal.aborted) await consumer.close();
  }

  #fetched(records: readonly FetchedRecord[], nextOffset: number): void {
    for (const { offset, headers = {}, value } of records) {
      if (Number(offset) < this.#next) continue;
      const reply = readLogReply({ headers, value }, this.#fields.bare);
      this.#listener.onReply({ ...reply, contentType: reply.contentType ?? nestContentType(reply.body) });
    }
    this.#next = Math.max(this.#next, nextOffset);
  }

  /** Somebody has emptied or remade the topic: whatever is in it is newer than what we waited for. */
  async #outOfRange(): Promise<void> {
    const ends = await this.#fields.client.admin.ends(this.#at.topic);
    this.#next = ends.find(({ partition }) => partition === this.#at.partition)?.low ?? 0;
    this.#consumer?.seek(this.#at, this.#next);
  }

  /** Pending requests go on waiting: replies stay in their topic. */
  async #rejoin(cause: Error): Promise<void> {
    const { logger, name } = this.#fields;
    logger.warn(`${name}: reading replies has ended and is started again: ${messageOf(cause)}`);
    this.#hasJoined = false;
    await this.#standBack(1);
    if (this.#abort.signal.aborted) return;
    // It ends with the inbox alone.
    await this.#joinAtLast(() => false).catch(() => {});
  }

  /** Lets go of what has crashed, and waits. */
  async #standBack(attempt: number): Promise<void> {
    const { clock, random, reconnect } = this.#fields;
    const crashed = this.#consumer;
    this.#consumer = undefined;
    await crashed?.close();
    await sleep(clock, backoffMs(attempt, reconnect, random), this.#abort.signal);
  }
}

/** What a coordinator that is away, or goes away in the middle, does not bring about. */
function isEarlyAcked(error: unknown): boolean {
  return !(error instanceof KafkaClientError) || !['unavailable', 'unconfirmed'].includes(error.failure);
}
