import { setTimeout } from 'node:timers/promises';

const handlerMs = 10;

/** The work of the handlers of the row `kafka-slow-handler`. */
export async function slowly(tally, order) {
  tally.began();
  await setTimeout(handlerMs);
  tally.handled(order);
}
