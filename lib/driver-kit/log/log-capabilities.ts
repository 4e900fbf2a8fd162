import type { Capabilities } from '../../core/port/driver.js';

/** What a transport with partitioned topics can do, on Kafka as in memory. */
export const logCapabilities: Capabilities = {
  messageOptions: new Set(['partition']),
  destinations: new Set(['topic']),
  pausesWithoutRedelivery: true,
  requeue: 'in-process',
  exclusiveSource: false,
};
