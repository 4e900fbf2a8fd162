import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { connect } from 'amqplib';
import { order, pattern } from './order.mjs';
import { pump } from './pump.mjs';

export const prefetch = 500;
const settleMs = 500;
export const quorum = { durable: true, arguments: { 'x-queue-type': 'quorum' } };

/** Manages the queue of a subject, by a connection that takes no part in the measurement. */
export class Queue {
  name;
  #model;
  #channel;

  static async open(url, subject) {
    const queue = new Queue();
    queue.name = `bench.${subject}.${randomUUID().slice(0, 8)}`;
    queue.#model = await connect(url, { noDelay: true });
    queue.#channel = await queue.#model.createConfirmChannel();
    return queue;
  }

  async declare() {
    await this.#channel.assertQueue(this.name, quorum);
  }

  /**
   * Fills the queue with confirmed messages. All subjects get the properties that stork's client writes;
   * `wrap` changes the body.
   */
  async fill(messages, wrap = (data) => data) {
    await pump(messages, prefetch, (i) => {
      const options = {
        headers: {},
        contentType: 'application/json',
        type: pattern,
        messageId: randomUUID(),
        timestamp: Math.floor(Date.now() / 1_000),
        persistent: true,
      };
      const body = Buffer.from(JSON.stringify(wrap(order(i))));
      return new Promise((resolve, reject) => {
        this.#channel.publish('', this.name, body, options, (error) => (error ? reject(error) : resolve()));
      });
    });
    globalThis.gc();
  }

  /**
   * Called before a consumer is closed. Some clients, and the broker, process acknowledgements for a moment
   * after the last handler has ended; closing the channel drops those that its quorum queue has not applied,
   * and no event signals that all are.
   */
  async settled() {
    await setTimeout(settleMs);
  }

  /**
   * After the consumer is closed the broker requeues unsettled messages, so an empty queue proves that all
   * were settled.
   */
  async expect(messages, name = this.name) {
    const { messageCount } = await this.#channel.checkQueue(name);
    if (messageCount !== messages)
      throw new Error(`counts do not add up: ${messageCount} messages in ${name}, not ${messages}`);
  }

  async purge() {
    await this.#channel.purgeQueue(this.name);
  }

  async delete({ exchange } = {}) {
    await this.#channel.deleteQueue(this.name);
    await this.#channel.deleteQueue(`${this.name}.dlq`);
    if (exchange !== undefined) await this.#channel.deleteExchange(exchange);
    await this.#model.close();
  }
}
