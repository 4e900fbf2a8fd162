import { array, assert, constant, constantFrom, oneof, property, record } from 'fast-check';
import { expect, it } from 'vitest';
import type { Delivery } from '../../../../lib/core/port/delivery.js';
import { PartitionKeyQueues } from '../../../../lib/kafka/consume/partition-key-queues.js';
import { newDelivery } from '../../core/harness.js';

/**
 * Records arrive, the sink takes messages from time to time, and dispatched messages settle in any order.
 */
type Step =
  | { readonly kind: 'record'; readonly orderingKey: string }
  | { readonly kind: 'settle' }
  | { readonly kind: 'dispatch' };

const steps = array(
  oneof(
    record({ kind: constant('record' as const), orderingKey: constantFrom('a', 'b', 'c') }),
    record({ kind: constant('settle' as const) }),
    record({ kind: constant('dispatch' as const) }),
  ),
  { maxLength: 200 },
);

it('dispatches every message, those of one key in order, whenever the sink pauses', () => {
  const check = (schedule: readonly Step[]): void => {
    const queues = new PartitionKeyQueues();
    const dispatched: Delivery[] = [];
    const tagsByKey = new Map<string, number[]>();
    let tag = 0;
    const dispatch = (delivery: Delivery): void => {
      dispatched.push(delivery);
      tagsByKey.set(delivery.orderingKey!, [...(tagsByKey.get(delivery.orderingKey!) ?? []), delivery.tag]);
    };
    const dispatchWaiting = (): void => {
      for (let next = queues.next(); next !== undefined; next = queues.next()) dispatch(next);
    };
    const settle = (): void => {
      const delivery = dispatched.splice(Math.floor(dispatched.length / 2), 1)[0];
      if (delivery !== undefined) queues.settle(delivery);
    };
    for (const step of schedule) {
      if (step.kind === 'dispatch') dispatchWaiting();
      else if (step.kind === 'settle') settle();
      else {
        const { delivery } = newDelivery({ orderingKey: step.orderingKey, tag: tag++ });
        if (queues.admit(delivery)) dispatch(delivery);
      }
    }
    while (dispatched.length > 0) {
      settle();
      dispatchWaiting();
    }
    const all = [...tagsByKey.values()].flat();
    expect(all).toHaveLength(tag);
    for (const tags of tagsByKey.values()) expect(tags).toEqual(tags.toSorted((a, b) => a - b));
    expect(queues.bytes).toBe(0);
  };
  assert(property(steps, check), { numRuns: 2_000 });
});
