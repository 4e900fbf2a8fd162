import type { Capabilities } from '../../core/port/driver.js';

/** Requeues of a message after which it is dead-lettered. */
export const defaultDeliveryLimit = 100;

/** What a transport with partitioned topics can do, on Kafka as in memory. */
export const logCapabilities: Capabilities = {
  messageOptions: new Set(['partition']),
  destinations: new Set(['topic']),
  pausesWithoutRedelivery: true,
  requeue: 'in-process',
  exclusiveSource: false,
};
