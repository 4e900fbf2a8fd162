import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { connect } from 'amqplib';
import { order, pattern } from './order.mjs';
import { pump } from './pump.mjs';

export const prefetch = 500;
const settleMs = 500;
export const quorum = { durable: true, arguments: { 'x-queue-type': 'quorum' } };

/** How a subject looks after its queue: by a connection that has no part in what is measured. */
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

  /** Fills the queue with confirmed messages. All subjects get the properties that our client writes; `wrap` makes another body of it. */
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
   * Before a consumer goes. Acknowledgements go on for a moment after the last handler has ended, in some clients and in the broker, whose
   * channel drops those that its quorum queue has not taken; and nothing tells when that moment is over.
   */
  async settled() {
    await setTimeout(settleMs);
  }

  /** Once the consumer is gone, what was not settled is back: so this tells whether everything was. */
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
