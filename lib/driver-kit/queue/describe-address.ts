import type { QueueAddress } from './addressing.js';

/** An address in an error text. */
export function describeAddress({ exchange, routingKey }: QueueAddress): string {
  return exchange === '' ? `the queue "${routingKey}"` : `"${exchange}" with the key "${routingKey}"`;
}
