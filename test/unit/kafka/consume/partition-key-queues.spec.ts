import { array, assert, constant, constantFrom, oneof, property, record } from 'fast-check';
import { expect, it } from 'vitest';
import type { Delivery } from '../../../../lib/core/port/delivery.js';
import { PartitionKeyQueues } from '../../../../lib/kafka/consume/partition-key-queues.js';
import { newDelivery } from '../../core/harness.js';

/** Records come in; a sink that is open now and then takes them; those that it has are settled in any order. */
type Step =
  | { readonly kind: 'record'; readonly orderingKey: string }
  | { readonly kind: 'settle' }
  | { readonly kind: 'pump' };

const steps = array(
  oneof(
    record({ kind: constant('record' as const), orderingKey: constantFrom('a', 'b', 'c') }),
    record({ kind: constant('settle' as const) }),
    record({ kind: constant('pump' as const) }),
  ),
  { maxLength: 200 },
);

it('gives out everything, each lane in order, whenever the sink pauses', () => {
  const run = (schedule: readonly Step[]): void => {
    const lanes = new PartitionKeyQueues();
    const handed: Delivery[] = [];
    const order = new Map<string, number[]>();
    let tag = 0;
    const take = (delivery: Delivery): void => {
      handed.push(delivery);
      order.set(delivery.orderingKey!, [...(order.get(delivery.orderingKey!) ?? []), delivery.tag]);
    };
    const pump = (): void => {
      for (let next = lanes.next(); next !== undefined; next = lanes.next()) take(next);
    };
    const settle = (): void => {
      const delivery = handed.splice(Math.floor(handed.length / 2), 1)[0];
      if (delivery !== undefined) lanes.leave(delivery);
    };
    for (const step of schedule) {
      if (step.kind === 'pump') pump();
      else if (step.kind === 'settle') settle();
      else {
        const { delivery } = newDelivery({ orderingKey: step.orderingKey, tag: tag++ });
        if (lanes.admit(delivery)) take(delivery);
      }
    }
    while (handed.length > 0) {
      settle();
      pump();
    }
    const all = [...order.values()].flat();
    expect(all).toHaveLength(tag);
    for (const tags of order.values()) expect(tags).toEqual(tags.toSorted((a, b) => a - b));
    expect(lanes.bytes).toBe(0);
  };
  assert(property(steps, run), { numRuns: 2_000 });
});
