import { parseArgs } from 'node:util';
import type { TransportDefinition } from 'nestjs-stork';
import { memory } from 'nestjs-stork/memory';

/** A broker that the sample can use. */
export interface Broker {
  readonly transport: TransportDefinition;
  /** Shown at the head of the output. */
  readonly description: string;
  /** Deletes the queues or topics that the sample created. */
  cleanUp(): Promise<void>;
}

/** One entry per broker; a client library is loaded on demand. */
const brokers = new Map<string, () => Broker | Promise<Broker>>([
  ['memory', inMemory],
  ['rabbitmq', async () => (await import('./rabbitmq.js')).onRabbitMq()],
  ['kafka', async () => (await import('./kafka.js')).onKafka()],
]);

/**
 * What `--broker <name>` names; without it, memory.
 *
 * @throws Error with one line for the person who typed it
 */
export async function chooseBroker(args: readonly string[]): Promise<Broker> {
  const { values } = parseArgs({
    args: [...args],
    options: { broker: { type: 'string', default: 'memory' } },
  });
  const make = brokers.get(values.broker);
  if (make === undefined)
    throw new Error(`there is no broker "${values.broker}"; known: ${[...brokers.keys()].join(', ')}`);
  return make();
}

function inMemory(): Broker {
  return { transport: memory({ queue: 'shop' }), description: 'memory', cleanUp: async () => {} };
}
