import type { TransportDefinition } from '../nest/bootstrap/transport-definition.js';
import { KafkaContext } from './context.js';
import { KafkaDriver } from './driver.js';
import type { KafkaOptions } from './options/options.js';
import { validateKafkaOptions } from './options/validate-options.js';

/** A transport for Apache Kafka 3.9 or newer. @publicApi */
export function kafka(options: KafkaOptions): TransportDefinition {
  return {
    common: options,
    context: KafkaContext,
    validate: (path) => validateKafkaOptions(options, path),
    createDriver: (environment) => new KafkaDriver(options, environment),
  };
}

/**
 * Like `kafka()`. `KAFKA_BROKERS` (comma-separated) and `KAFKA_GROUP_ID` of the environment are the
 * defaults of `brokers` and `groupId`.
 *
 * @publicApi
 */
export function kafkaFromEnv(options: Partial<KafkaOptions> = {}): TransportDefinition {
  const { KAFKA_BROKERS: list, KAFKA_GROUP_ID: groupId } = process.env;
  const brokers = list?.split(',').map((broker) => broker.trim());
  return kafka({ brokers, groupId, ...options });
}
