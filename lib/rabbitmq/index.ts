export { RabbitMqContext } from './context.js';
export type { RabbitMqOptions } from './options.js';
export { rabbitmq, rabbitmqFromEnv } from './rabbitmq.js';
