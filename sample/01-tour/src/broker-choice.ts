import type { MessageCodec, TransportDefinition } from 'nestjs-stork';
import { memory } from 'nestjs-stork/memory';
import type { TourOptions } from './options.js';

/**
 * The tour's two transports: `shop` carries the orders, `deadLetters` consumes the dead letters of `shop`.
 */
export interface ShopTransports {
  readonly shop: TransportDefinition;
  readonly deadLetters: TransportDefinition;
}

/** A broker as the tour sees it. */
export interface Broker {
  readonly transports: ShopTransports;
  /** Shown at the head of the report. */
  readonly description: string;
  /** A command that lists the remaining dead letters; undefined where they end with this process. */
  readonly deadLettersCommand: string | undefined;
  /** One line for a person whose broker does not answer. */
  explainSilence(reason: string): string;
  /** Deletes the queues or topics that the tour created. */
  cleanUp(): Promise<void>;
}

/**
 * One entry per broker; the rest of the tour does not know which one it uses. A client library is loaded on
 * demand.
 */
const brokers = new Map<string, (options: TourOptions) => Broker | Promise<Broker>>([
  ['memory', inMemory],
  ['kafka', async (options) => (await import('./kafka.js')).onKafka(options)],
  ['rabbitmq', async (options) => (await import('./rabbitmq.js')).onRabbitMq(options)],
]);

/** Dead letters may hold broken JSON, so their consumer reads the bytes without decoding. */
export const unreadJson: MessageCodec = {
  contentType: 'application/json',
  encode: (value) => Buffer.from(JSON.stringify(value)),
  decode: (body) => body,
};

/**
 * What `--broker <name>` names.
 *
 * @throws Error with one line for the person who typed it
 */
export async function chooseBroker(options: TourOptions): Promise<Broker> {
  const make = brokers.get(options.broker);
  if (make === undefined) {
    throw new Error(
      `the broker "${options.broker}" is not available yet; known: ${[...brokers.keys()].join(', ')}`,
    );
  }
  return make(options);
}

function inMemory({ queue = 'shop', isPublishing, isConsuming }: TourOptions): Broker {
  if (!isPublishing || !isConsuming) {
    throw new Error('the broker "memory" ends with its process: leave out --publish and --consume');
  }
  return {
    transports: {
      shop: memory({ queue }),
      deadLetters: memory({ queue: `${queue}.dlq`, codecs: [unreadJson] }),
    },
    description: 'memory',
    deadLettersCommand: undefined,
    explainSilence: (reason) => reason,
    cleanUp: async () => {},
  };
}
