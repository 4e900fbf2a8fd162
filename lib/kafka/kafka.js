import { KafkaContext } from './context.js';
import { KafkaDriver } from './driver.js';
import { checkKafkaOptions } from './options.js';
/** A transport over Apache Kafka 3.9 or newer. @publicApi */
export function kafka(options) {
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
export function kafkaFromEnv(options = {}) {
  const { KAFKA_BROKERS: list, KAFKA_GROUP_ID: groupId } = process.env;
  const brokers = list?.split(',').map((broker) => broker.trim());
  return kafka({ brokers, groupId, ...options });
}
