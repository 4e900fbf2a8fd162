import { randomUUID } from 'node:crypto';
import { backoffMs } from '../core/backoff.js';
import { sleep } from '../core/clock.js';
import { ConnectionLostError, messageOf } from '../core/errors.js';
import { inboundLogReply } from '../core/log-records.js';
import { assignOne } from './assigner.js';
import { nestContentType } from './wire.js';
/**
 * Reads one partition of the reply topic, alone in a group of its own: no rebalance can give it to somebody else. Where it begins is
 * known before it joins, so that no reply is missed, and it is never committed: what is older than this process is nobody's.
 */
export class KafkaReplyInbox {
  #fields;
  #listener;
  #group;
  #at = { topic: '', partition: 0 };
  #next = 0;
  #consumer;
  #abort = new AbortController();
  constructor(fields, listener) {
    this.#fields = fields;
    this.#listener = listener;
    this.#group = `${fields.groupPrefix}.reply.${randomUUID()}`;
  }
  get address() {
    return this.#at;
  }
  /** Resolves when every reply to the address will be seen. */
  async open() {
    const { client, topic, random } = this.#fields;
    const ends = await client.admin.ends(topic);
    const chosen = ends[Math.floor(random() * ends.length)];
    if (chosen === undefined) throw new ConnectionLostError(`the reply topic ${topic} has no partition yet`);
    this.#at = { topic, partition: chosen.partition };
    this.#next = chosen.high;
    await this.#join();
  }
  async close() {
    this.#abort.abort();
    await this.#consumer?.close();
    // Without us the broker would keep it for minutes.
    await this.#fields.client.admin.deleteGroup(this.#group).catch(() => {});
  }
  async #join() {
    const { client, settings } = this.#fields;
    const at = this.#at;
    const consumer = client.openConsumer(
      { ...settings, group: this.#group, topics: [at.topic], assign: assignOne(at) },
      {
        beforeJoin: async () => {},
        assigned: () => consumer.seek(at, this.#next),
        fetched: (_, records, nextOffset) => this.#fetched(records, nextOffset),
        outOfRange: () => this.#outOfRange(),
        crashed: (error) => void this.#rejoin(error),
      },
    );
    this.#consumer = consumer;
    await consumer.start();
  }
  #fetched(records, nextOffset) {
    for (const { offset, headers = {}, value } of records) {
      if (Number(offset) < this.#next) continue;
      const reply = inboundLogReply({ headers, value }, this.#fields.bare);
      this.#listener.onReply({ ...reply, contentType: reply.contentType ?? nestContentType(reply.body) });
    }
    this.#next = Math.max(this.#next, nextOffset);
  }
  /** Somebody has emptied or remade the topic: whatever is in it is newer than what we waited for. */
  async #outOfRange() {
    const ends = await this.#fields.client.admin.ends(this.#at.topic);
    this.#next = ends.find(({ partition }) => partition === this.#at.partition)?.low ?? 0;
    this.#consumer?.seek(this.#at, this.#next);
  }
  /** Pending requests go on waiting: replies stay in their topic. */
  async #rejoin(cause) {
    const { clock, random, reconnect, logger, name } = this.#fields;
    logger.warn(`${name}: reading replies has ended and is started again: ${messageOf(cause)}`);
    for (let attempt = 1; !this.#abort.signal.aborted; attempt++) {
      const crashed = this.#consumer;
      this.#consumer = undefined;
      await crashed?.close();
      await sleep(clock, backoffMs(attempt, reconnect, random), this.#abort.signal);
      if (this.#abort.signal.aborted) return;
      try {
        return await this.#join();
      } catch {
        // Its crash is not told again: the loop tries on.
      }
    }
  }
}
