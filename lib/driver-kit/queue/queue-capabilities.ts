import type { Capabilities } from '../../core/port/driver.js';

/** What a transport with queues can do, on RabbitMQ as in memory. */
export const queueCapabilities: Capabilities = {
  messageOptions: new Set(['delayMs', 'expiresInMs', 'priority', 'persistent', 'appId']),
  destinations: new Set(['queue', 'exchange']),
  pausesWithoutRedelivery: false,
  requeue: 'broker',
  exclusiveSource: true,
};
