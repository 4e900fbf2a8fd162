export type { FetchedRecord } from './client/client.js';
export type { DecodedRecord } from './context.js';
export { KafkaContext } from './context.js';
export { kafka, kafkaFromEnv } from './kafka.js';
export type { CompressionCodec, KafkaOptions, KafkaSasl, PartitionChoice } from './options/options.js';
