export type { RabbitMqChannelRef } from './context.js';
export { RabbitMqContext } from './context.js';
export type { RabbitMqOptions } from './options.js';
export type { RabbitMqExchange } from './topology/topology.js';
// Types of amqplib that options and contexts have: declarations of an application can name them.
export type { ConsumeMessage as RabbitMqMessage, SocketOptions as RabbitMqSocketOptions } from 'amqplib';
export { rabbitmq, rabbitmqFromEnv } from './rabbitmq.js';
