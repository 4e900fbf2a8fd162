import { StorkConfigError } from '../core/runtime/errors.js';
import type { DriverEnvironment, TransportDefinition } from '../nest/bootstrap/transport-definition.js';
import { MemoryBroker } from './broker/memory-broker.js';
import { LogDriver } from './log/log-driver.js';
import { validateMemoryOptions, type MemoryOptions } from './options.js';
import { QueueDriver } from './queue/queue-driver.js';

const applicationBroker = Symbol('stork.memory.broker');

/**
 * A transport over an in-process broker with the semantics of RabbitMQ (`mode: 'queue'`) or Kafka
 * (`mode: 'log'`). It needs no installation, and its messages are lost with the process.
 *
 * @publicApi
 */
export function memory(options: MemoryOptions): TransportDefinition {
  return {
    common: options,
    validate: (path) => validateMemoryOptions(options, path),
    createDriver(environment) {
      const broker = options.broker ?? sharedBroker(environment);
      return options.mode === 'log'
        ? new LogDriver(broker, options, environment)
        : new QueueDriver(broker, options, environment);
    },
  };
}

function sharedBroker({ shared, clock }: DriverEnvironment): MemoryBroker {
  const known = shared.get(applicationBroker) ?? new MemoryBroker({ clock });
  if (!(known instanceof MemoryBroker))
    throw new StorkConfigError('two copies of nestjs-stork/memory in one application');
  shared.set(applicationBroker, known);
  return known;
}
