import type { MessageCodec, TransportDefinition } from 'nestjs-stork';
import { memory } from 'nestjs-stork/memory';
import type { TourOptions } from './options.js';

/** The tour's two transports: `shop` carries the orders, `letters` reads what became a dead letter there. */
export interface ShopTransports {
  readonly shop: TransportDefinition;
  readonly deadLetters: TransportDefinition;
}

/** A broker as the tour sees it. */
export interface Broker {
  readonly transports: ShopTransports;
  /** For the head of the story. */
  readonly description: string;
  /** Shows the dead letters that are left there; undefined where they end with this process. */
  readonly lettersCommand: string | undefined;
  /** One line for somebody whose broker does not answer. */
  explainSilence(reason: string): string;
  /** Deletes what the tour has made there. */
  cleanUp(): Promise<void>;
}

/** One entry for each broker; nothing else in the tour knows which one it runs on. A client library is loaded when it is needed. */
const brokers = new Map<string, (options: TourOptions) => Broker | Promise<Broker>>([
  ['memory', inMemory],
  ['kafka', async (options) => (await import('./kafka.js')).onKafka(options)],
  ['rabbitmq', async (options) => (await import('./rabbitmq.js')).onRabbitMq(options)],
]);

/** Dead letters may be broken JSON: whoever reads them takes the bytes as they are. */
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
      // What the shop cannot handle goes to `<queue>.dlq`.
      shop: memory({ queue }),
      deadLetters: memory({ queue: `${queue}.dlq`, codecs: [unreadJson] }),
    },
    description: 'memory',
    lettersCommand: undefined,
    explainSilence: (reason) => reason,
    cleanUp: async () => {},
  };
}
