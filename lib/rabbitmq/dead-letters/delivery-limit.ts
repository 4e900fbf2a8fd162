import { StorkConfigError } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';

/** After so many returns RabbitMQ 4 lets go of a message in a quorum queue that has no limit of its own. */
export const limitOfRabbitMq4 = 20;

/**
 * How far a letter is from being dropped by its queue, which counts each return: `last`, it would be by the next one; `near`, by one of the
 * next few.
 *
 * @param limit returns that the queue allows, e.g. 20
 */
export function returnsLeft(headers: MessageHeaders, limit: number): 'enough' | 'near' | 'last' {
  const returns = headers['x-delivery-count'];
  const reserve = Math.max(1, Math.floor(limit / 4));
  // Beyond its limit the queue must have another one.
  if (typeof returns !== 'number' || returns < limit - reserve || returns > limit) return 'enough';
  return returns === limit ? 'last' : 'near';
}

/** Why no more is looked at. */
export function tooFewReturns(queue: string, headers: MessageHeaders, limit: number): StorkConfigError {
  return new StorkConfigError([
    {
      name: 'deliveryLimit',
      expected:
        `more than ${limit} to look at "${queue}": each look is one more delivery of its letters, and a quorum queue that is not of this library ` +
        'drops them after as many as its delivery-limit says; raise that by a policy, then say here what it is, or replay or discard them all',
      given: `${limit}, and a letter that was delivered ${Number(headers['x-delivery-count']) + 1} times`,
    },
  ]);
}
