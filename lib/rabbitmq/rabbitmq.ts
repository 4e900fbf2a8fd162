import type { TransportDefinition } from '../nest/bootstrap/transport-definition.js';
import { transportFromEnv } from '../nest/validation/environment.js';
import { RabbitMqContext } from './context.js';
import { RabbitMqDriver } from './driver.js';
import { validateRabbitMqOptions, type RabbitMqOptions } from './options.js';

/** Creates a RabbitMQ transport. Requires RabbitMQ 3.10 or newer. @publicApi */
export function rabbitmq(options: RabbitMqOptions): TransportDefinition {
  return {
    common: options,
    context: RabbitMqContext,
    validate: (path) => validateRabbitMqOptions(options, path),
    createDriver: (environment) => new RabbitMqDriver(options, environment),
  };
}

/**
 * Like `rabbitmq()`. An option `url` or `queue` that is missing is read from the environment variable
 * `RABBITMQ_URL` or `QUEUE_NAME` when the application starts.
 *
 * @publicApi
 */
export function rabbitmqFromEnv(options: Partial<RabbitMqOptions> = {}): TransportDefinition {
  const read = (): TransportDefinition => {
    const { RABBITMQ_URL, QUEUE_NAME } = process.env;
    return rabbitmq({ ...options, url: options.url ?? RABBITMQ_URL, queue: options.queue ?? QUEUE_NAME });
  };
  return transportFromEnv(read, { url: 'RABBITMQ_URL', queue: 'QUEUE_NAME' });
}
