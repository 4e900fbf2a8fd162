import { setTimeout } from 'node:timers/promises';

const handlerMs = 10;

/** What the handlers of the row `kafka-slow-handler` do. */
export async function slowly(tally, order) {
  tally.began();
  await setTimeout(handlerMs);
  tally.handled(order);
}
