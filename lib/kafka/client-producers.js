import { endsWithin } from '../core/clock.js';
import { ClientClosedError, messageOf, PublishRejectedError } from '../core/errors.js';
import { withResolvers } from '../core/promises.js';
import { KafkaClientError } from './client.js';
/** One producer of the client and what is on its way through it. Retired, it ends when that has ended. */
export class ProducerLease {
  client;
  /** Queues with a request under way. */
  sending = new Set();
  #ended;
  #isRetired = false;
  #closing;
  constructor(client, ended) {
    this.client = client;
    this.#ended = ended;
  }
  end(queue) {
    this.sending.delete(queue);
    this.#closeIfDone();
  }
  retire() {
    this.#isRetired = true;
    this.#closeIfDone();
  }
  close() {
    this.#closing ??= this.client.close().then(() => this.#ended(this));
    return this.#closing;
  }
  #closeIfDone() {
    if (this.#isRetired && this.sending.size === 0) void this.close();
  }
}
/** The producer of now and those that still finish: one that has gone wrong is replaced, not repaired. */
export class ClientProducers {
  #fields;
  #leases = new Set();
  #current;
  /** The try under way, the wait before the next one included. */
  #isOpening = false;
  #opening = Promise.resolve();
  #wasUp = false;
  #closed = false;
  #waiting = [];
  constructor(fields) {
    this.#fields = fields;
  }
  get current() {
    return this.#current;
  }
  /** Resolves when there is one; rejects where the broker refuses, and when it is closed first. */
  ready() {
    if (this.#closed) return Promise.reject(this.#closedError());
    if (this.#current !== undefined) return Promise.resolve();
    const waiter = withResolvers();
    this.#waiting.push(waiter);
    this.open();
    return waiter.promise;
  }
  /** Sees to it that there will be one. */
  open() {
    if (this.#isOpening || this.#closed || this.#current !== undefined) return;
    this.#isOpening = true;
    this.#tryToOpen();
  }
  /** Nothing more goes through it, and another takes its place. */
  retire(lease) {
    lease.retire();
    if (lease !== this.#current) return;
    this.#current = undefined;
    this.open();
  }
  /** Ends them all, whatever is on its way, within `limitMs`. */
  async close(limitMs) {
    this.#closed = true;
    this.#current = undefined;
    for (const waiter of this.#takeWaiting()) waiter.reject(this.#closedError());
    const ended = Promise.all([this.#opening, ...[...this.#leases].map((lease) => lease.close())]);
    await endsWithin(this.#fields.clock, ended, limitMs);
  }
  #tryToOpen() {
    this.#opening = this.#openOnce();
  }
  async #openOnce() {
    let producer;
    try {
      producer = await this.#fields.client.openProducer(this.#fields.settings);
    } catch (error) {
      return this.#failed(error);
    }
    // Too late: nobody else knows of it.
    if (this.#closed) await producer.close();
    else this.#opened(producer);
  }
  #opened(producer) {
    this.#isOpening = false;
    this.#wasUp = true;
    this.#current = new ProducerLease(producer, (lease) => this.#leases.delete(lease));
    this.#leases.add(this.#current);
    this.#fields.outages.over(this);
    for (const waiter of this.#takeWaiting()) waiter.resolve();
    this.#fields.up();
  }
  #failed(error) {
    const { name, outages } = this.#fields;
    if (this.#closed) return;
    const cause = error instanceof Error ? error : new Error(messageOf(error));
    // Later it may be a broker that has not loaded its users yet: then only waiting helps.
    if (!this.#wasUp && error instanceof KafkaClientError && error.failure === 'refused') {
      this.#isOpening = false;
      outages.over(this);
      const why = new PublishRejectedError(`${name}: the broker opens no producer: ${cause.message}`, {
        cause,
      });
      for (const waiter of this.#takeWaiting()) waiter.reject(why);
      return this.#fields.refused(why);
    }
    outages.backOff(this, cause, () => this.#tryToOpen());
  }
  #takeWaiting() {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }
  #closedError() {
    return new ClientClosedError(`${this.#fields.name}: closed`);
  }
}
