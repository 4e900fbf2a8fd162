import { StorkConfigError } from '../core/errors.js';
import type { Headers } from '../core/headers.js';

/** After so many returns RabbitMQ 4 lets go of a message in a quorum queue that has no limit of its own. */
export const limitOfRabbitMq4 = 20;

/**
 * Refuses a look at letters that only a few more looks would lose: each one gives them back to the broker, which counts that.
 *
 * @param limit returns after which the queue lets go of a letter, e.g. 20
 * @throws StorkConfigError
 */
export function refuseLastReturns(queue: string, headers: Headers, limit: number): void {
  const returns = headers['x-delivery-count'];
  const reserve = Math.max(1, Math.floor(limit / 4));
  // Beyond it the queue has another one.
  if (typeof returns !== 'number' || returns < limit - reserve || returns >= limit) return;
  throw new StorkConfigError([
    {
      name: 'deliveryLimit',
      expected:
        `more than ${limit} to look at "${queue}": each look is one more delivery of its letters, and a quorum queue that is not of this library ` +
        'drops them after as many as its delivery-limit says; raise that by a policy, then say here what it is, or replay or discard them all',
      given: `${limit}, and a letter that was delivered ${returns + 1} times`,
    },
  ]);
}
