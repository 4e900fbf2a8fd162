export type { RabbitMqOptions } from './options.js';
export { rabbitmq, rabbitmqFromEnv } from './rabbitmq.js';
