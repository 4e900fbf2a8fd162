import { StorkConfigError } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';

/** Delivery limit of RabbitMQ 4 for quorum queues without an `x-delivery-limit` of their own. */
export const brokerDefaultDeliveryLimit = 20;

/**
 * How close a dead letter is to the delivery limit of its queue, which counts every return. `last`: the
 * next return drops the message. `near`: one of the next few returns does.
 *
 * @param limit returns that the queue allows, e.g. 20
 */
export function deliveriesLeft(headers: MessageHeaders, limit: number): 'enough' | 'near' | 'last' {
  const returns = headers['x-delivery-count'];
  const reserve = Math.max(1, Math.floor(limit / 4));
  // A count above the limit proves that the queue has another limit.
  if (typeof returns !== 'number' || returns < limit - reserve || returns > limit) return 'enough';
  return returns === limit ? 'last' : 'near';
}

/** Stops a scan before the delivery limit of its queue drops dead letters. */
export function deliveryLimitNearError(
  queue: string,
  headers: MessageHeaders,
  limit: number,
): StorkConfigError {
  return new StorkConfigError([
    {
      name: 'deliveryLimit',
      expected:
        `more than ${limit} to browse "${queue}": browsing delivers each dead letter once more, and a quorum queue that stork did not declare ` +
        'drops messages beyond its delivery-limit; raise the limit by a policy and pass it as deliveryLimit, or replay or discard all dead letters',
      given: `${limit}, and a dead letter that was delivered ${Number(headers['x-delivery-count']) + 1} times`,
    },
  ]);
}
