import type { Driver } from '../core/port/driver.js';
import type { StorkClock } from '../core/runtime/clock.js';
import { StorkConfigError } from '../core/runtime/errors.js';
import type { DriverEnvironment, TransportDefinition } from '../nest/bootstrap/transport-definition.js';
import { MemoryBroker } from './broker/memory-broker.js';
import { LogDriver } from './log/log-driver.js';
import { validateMemoryOptions, type MemoryOptions } from './options.js';
import { QueueDriver } from './queue/queue-driver.js';

const applicationBrokerKey = Symbol.for('nestjs-stork.memory-broker');

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
      if (options.broker !== undefined) return newDriver(options.broker, options, environment);
      const shared = applicationBroker(environment);
      const driver = newDriver(shared.broker, options, environment);
      shared.add(driver);
      return driver;
    },
  };
}

function newDriver(broker: MemoryBroker, options: MemoryOptions, environment: DriverEnvironment): Driver {
  return options.mode === 'log'
    ? new LogDriver(broker, options, environment)
    : new QueueDriver(broker, options, environment);
}

/**
 * The broker of one application, which nothing else can reach. It is closed with the last of its transports:
 * timers of delayed messages would keep the process alive.
 */
class ApplicationBroker {
  readonly broker: MemoryBroker;
  #openDrivers = 0;

  constructor(clock: StorkClock) {
    this.broker = new MemoryBroker({ clock });
  }

  add(driver: Driver): void {
    this.#openDrivers++;
    driver.state.changes.subscribe({
      complete: () => {
        if (--this.#openDrivers === 0) this.broker.close();
      },
    });
  }
}

function applicationBroker({ shared, clock }: DriverEnvironment): ApplicationBroker {
  const known = shared.get(applicationBrokerKey) ?? new ApplicationBroker(clock);
  if (!(known instanceof ApplicationBroker))
    throw new StorkConfigError(
      'the application loads two copies of nestjs-stork/memory; bundle it once, or keep nestjs-stork out of the bundle',
    );
  shared.set(applicationBrokerKey, known);
  return known;
}
