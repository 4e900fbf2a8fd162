import { parseArgs } from 'node:util';
import type { Codec, TransportDefinition } from 'nestjs-stork';
import { memory } from 'nestjs-stork/memory';

/** The tour's two transports: `shop` carries the orders, `letters` reads what became a dead letter there. */
export interface ShopTransports {
  readonly shop: TransportDefinition;
  readonly letters: TransportDefinition;
}

const defaultBroker = 'memory';

/** One entry for each broker; nothing else in the tour knows which one it runs on. */
const brokers: ReadonlyMap<string, () => ShopTransports> = new Map([
  [
    'memory',
    () => ({
      // What the shop cannot handle goes to `<queue>.dlq`.
      shop: memory({ queue: 'shop' }),
      letters: memory({ queue: 'shop.dlq', codecs: [unreadJson] }),
    }),
  ],
]);

/** Dead letters may be broken JSON: whoever reads them takes the bytes as they are. */
const unreadJson: Codec = {
  contentType: 'application/json',
  encode: (value) => Buffer.from(JSON.stringify(value)),
  decode: (body) => body,
};

/**
 * What `--broker <name>` names.
 *
 * @throws Error with one line for the person who typed it
 */
export function chooseBroker(args: readonly string[]): {
  readonly name: string;
  readonly transports: ShopTransports;
} {
  const { values } = parseArgs({
    args: [...args],
    options: { broker: { type: 'string', default: defaultBroker } },
  });
  const name = values.broker;
  const make = brokers.get(name);
  if (make === undefined) {
    throw new Error(`the broker "${name}" is not available yet; known: ${[...brokers.keys()].join(', ')}`);
  }
  return { name, transports: make() };
}
