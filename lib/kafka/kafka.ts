import type { TransportDefinition } from '../nest/bootstrap/transport-definition.js';
import { transportFromEnv } from '../nest/validation/environment.js';
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
 * Like `kafka()`. An option `brokers` or `groupId` that is missing is read from the environment variable
 * `KAFKA_BROKERS` (comma-separated) or `KAFKA_GROUP_ID` when the application starts.
 *
 * @publicApi
 */
export function kafkaFromEnv(options: Partial<KafkaOptions> = {}): TransportDefinition {
  const read = (): TransportDefinition => {
    const { KAFKA_BROKERS, KAFKA_GROUP_ID } = process.env;
    const brokers = KAFKA_BROKERS?.split(',').map((broker) => broker.trim());
    return kafka({
      ...options,
      brokers: options.brokers ?? brokers,
      groupId: options.groupId ?? KAFKA_GROUP_ID,
    });
  };
  return transportFromEnv(read, { brokers: 'KAFKA_BROKERS', groupId: 'KAFKA_GROUP_ID' });
}
