import type { TransportDefinition } from '../nest/bootstrap/transport-definition.js';
import { RabbitMqContext } from './context.js';
import { RabbitMqDriver } from './driver.js';
import { checkRabbitMqOptions, type RabbitMqOptions } from './options.js';

/** A transport over RabbitMQ 3.10 or newer. @publicApi */
export function rabbitmq(options: RabbitMqOptions): TransportDefinition {
  return {
    common: options,
    context: RabbitMqContext,
    validate: (path) => checkRabbitMqOptions(options, path),
    createDriver: (environment) => new RabbitMqDriver(options, environment),
  };
}

/**
 * Like `rabbitmq()`, with `RABBITMQ_URL` and `QUEUE_NAME` from the environment where the options do not say otherwise.
 *
 * @publicApi
 */
export function rabbitmqFromEnv(options: Partial<RabbitMqOptions> = {}): TransportDefinition {
  const { RABBITMQ_URL: url, QUEUE_NAME: queue } = process.env;
  return rabbitmq({ url, queue, ...options });
}
