import type { TransportDefinition } from '../nest/bootstrap/transport-definition.js';
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
 * Like `rabbitmq()`. `url` and `queue` default to the environment variables `RABBITMQ_URL` and
 * `QUEUE_NAME`.
 *
 * @publicApi
 */
export function rabbitmqFromEnv(options: Partial<RabbitMqOptions> = {}): TransportDefinition {
  const { RABBITMQ_URL: url, QUEUE_NAME: queue } = process.env;
  return rabbitmq({ url, queue, ...options });
}
