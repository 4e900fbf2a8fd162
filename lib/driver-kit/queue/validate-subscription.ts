import type { SubscriptionSpec } from '../../core/port/driver.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { findConflicts, validateNoPartitionOrder, validateTargetsNotConsumed } from '../source-settings.js';
import { validateBindable, type QueueDestinations } from './addressing.js';

/** Handler settings that no queue supports, on RabbitMQ as in memory. */
export function validateQueueSubscription(
  { patterns, deadLetterTargets }: SubscriptionSpec,
  { queue, exchange }: QueueDestinations,
  transport: string,
): ConfigProblem[] {
  return [
    ...validateNoPartitionOrder(patterns, transport),
    ...findConflicts(patterns, `the queue "${queue}"`),
    ...validateTargetsNotConsumed(deadLetterTargets, (name) => name === queue, transport),
    ...validateBindable(patterns, exchange, transport),
  ];
}
