import { openConsumer } from './kafka-consume.mjs';

export function open(options) {
  return openConsumer(options, (tally, order) => tally.handled(order));
}
