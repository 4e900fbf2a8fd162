import 'reflect-metadata';
import { order, pattern } from '../../order.mjs';
import { Tally } from '../../tally.mjs';
import { countingController } from '../pass-through.mjs';
import { startApp } from './app.mjs';

// The driver's side of the port, which the package does not export.
const { ConnectionStateCell } = await import('../../../../dist/esm/core/port/connection-state.js');
const { Delivery, SourceSession } = await import('../../../../dist/esm/core/port/delivery.js');
const { queueCapabilities } = await import('../../../../dist/esm/driver-kit/queue/queue-capabilities.js');

const inFlight = 100;
const none = [];
const noReply = { kind: 'none' };

/** Delivers a list of bodies and counts acknowledgements: what remains is the cost of core and of Nest. */
class NullDriver {
  capabilities = queueCapabilities;
  consumerName = 'null';
  state = new ConnectionStateCell();
  #session = new SourceSession();
  #sink;
  #origin = { source: 'null' };
  #bodies = none;
  #delivered = 0;

  validate() {
    return none;
  }
  async connect() {
    this.state.move({ value: 'ready' });
  }
  async declare() {}
  async subscribe(_spec, sink) {
    this.#sink = sink;
    return { pause() {}, resume() {}, async stop() {}, async close() {} };
  }
  roundDelay() {
    return undefined;
  }
  parseReplyAddress() {
    return noReply;
  }
  async close() {
    this.state.move({ value: 'closed' });
  }

  start(bodies) {
    this.#bodies = bodies;
    this.#delivered = 0;
    for (let i = 0; i < inFlight; i++) this.#deliver();
  }

  #deliver() {
    const tag = this.#delivered++;
    const message = {
      body: this.#bodies[tag],
      headers: {},
      patterns: [pattern],
      contentType: 'application/json',
      messageId: 'm-1',
      correlationId: undefined,
      key: undefined,
      timestamp: undefined,
      origin: this.#origin,
      raw: undefined,
    };
    const session = this.#session;
    this.#sink.deliver(
      new Delivery({ message, session, orderingKey: undefined, redelivered: false, tag, source: this }),
    );
  }

  ack() {
    if (this.#delivered < this.#bodies.length) this.#deliver();
  }
  requeue() {
    throw new Error('a message was requeued');
  }
}

export async function open({ messages }) {
  let tally;
  const controllers = [countingController((order) => tally.handled(order))];
  const driver = new NullDriver();
  const transport = { common: { concurrency: inFlight }, validate: () => none, createDriver: () => driver };
  const app = await startApp(transport, controllers);
  const bodies = Array.from({ length: messages }, (_, i) => Buffer.from(JSON.stringify(order(i))));
  return {
    async round() {
      tally = new Tally(messages);
      globalThis.gc();
      driver.start(bodies);
      await tally.complete;
      return tally.elapsed();
    },
    close: () => app.close(),
  };
}
