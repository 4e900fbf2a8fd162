import type { QueueAddress } from './addressing.js';

/** An address in an error text. */
export function describeAddress({ exchange, routingKey }: QueueAddress): string {
  return exchange === ''
    ? `the queue "${routingKey}"`
    : `the exchange "${exchange}" with the routing key "${routingKey}"`;
}
