import type { TransportDefinition } from '../nest/bootstrap/transport-definition.js';
import { KafkaContext } from './context.js';
import { KafkaDriver } from './driver.js';
import { checkKafkaOptions, type KafkaOptions } from './options/options.js';

/** A transport over Apache Kafka 3.9 or newer. @publicApi */
export function kafka(options: KafkaOptions): TransportDefinition {
  return {
    common: options,
    context: KafkaContext,
    validate: (path) => checkKafkaOptions(options, path),
    createDriver: (environment) => new KafkaDriver(options, environment),
  };
}

/**
 * Like `kafka()`, with `KAFKA_BROKERS` (separated by commas) and `KAFKA_GROUP_ID` from the environment where the options do not say
 * otherwise.
 *
 * @publicApi
 */
export function kafkaFromEnv(options: Partial<KafkaOptions> = {}): TransportDefinition {
  const { KAFKA_BROKERS: list, KAFKA_GROUP_ID: groupId } = process.env;
  const brokers = list?.split(',').map((broker) => broker.trim());
  return kafka({ brokers, groupId, ...options });
}
