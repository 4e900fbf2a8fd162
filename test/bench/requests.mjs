import { order } from './order.mjs';
import { pump } from './pump.mjs';
import { Tally } from './tally.mjs';

/**
 * One round of requests to an echo handler. Caller and server share the process, so that the cost of both
 * counts. `begin` gets the round's tally for the server.
 */
export async function roundOfRequests({ messages, inFlight, begin, request }) {
  const tally = new Tally(messages);
  begin(tally);
  const ms = await pump(messages, inFlight, async (i) => {
    const asked = order(i);
    const reply = await request(asked);
    if (reply.n !== asked.n) throw new Error(`counts do not add up: ${asked.n} got the reply to ${reply.n}`);
  });
  tally.elapsed();
  return ms;
}
