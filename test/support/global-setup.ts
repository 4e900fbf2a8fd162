import type { TestProject } from 'vitest/node';
import { ensure, stop, type BrokerOptions } from './brokers/index.mjs';
import { instanceOf, isListening } from './brokers/parts.mjs';

declare module 'vitest' {
  interface ProvidedContext {
    /** AMQP address of the RabbitMQ to test against; undefined where brokers are skipped. */
    rabbitmqUrl: string | undefined;
    /** Addresses of the Kafka to test against; undefined where brokers are skipped. */
    kafkaBrokers: readonly string[] | undefined;
    /** URL of the Redis to test against; undefined where brokers are skipped. */
    redisUrl: string | undefined;
    /** The version that a throw-away RabbitMQ has to be of; undefined takes the usual one. */
    rabbitmqVersion: '4' | undefined;
    /** The version that a throw-away Kafka has to be of; undefined takes the usual one. */
    kafkaVersion: '3.9' | undefined;
  }
}

/** `STORK_RABBITMQ=4` and `STORK_KAFKA=3.9` test against these instead of the usual ones. */
const options: BrokerOptions = {
  rabbitmq: process.env['STORK_RABBITMQ'] === '4' ? '4' : undefined,
  kafka: process.env['STORK_KAFKA'] === '3.9' ? '3.9' : undefined,
};
const needed = ['rabbitmq', 'kafka', 'redis'] as const;
const variables = { rabbitmq: 'RABBITMQ_URL', kafka: 'KAFKA_BROKERS', redis: 'REDIS_URL' };

/** Brings up the brokers that the tests need, and ends those that it had to start. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  project.provide('rabbitmqVersion', options.rabbitmq === '4' ? '4' : undefined);
  project.provide('kafkaVersion', options.kafka === '3.9' ? '3.9' : undefined);
  if (process.env['STORK_SKIP_BROKERS'] === '1') {
    project.provide('rabbitmqUrl', undefined);
    project.provide('kafkaBrokers', undefined);
    project.provide('redisUrl', undefined);
    return async () => {};
  }
  const wereUp = await Promise.all(needed.map(isUp));
  const { rabbitmq, kafka, redis } = await ensure(needed, options);
  project.provide('rabbitmqUrl', rabbitmq.url);
  project.provide('kafkaBrokers', kafka.brokers);
  project.provide('redisUrl', redis.url);
  // Brokers that already ran are left running.
  const ours = needed.filter((_, i) => !wereUp[i]);
  return async () => void (await Promise.all(ours.map((name) => stop(name, options))));
}

async function isUp(name: (typeof needed)[number]): Promise<boolean> {
  return process.env[variables[name]] !== undefined || isListening(instanceOf(name, options).port);
}
