export { KafkaContext } from './context.js';
export { kafka, kafkaFromEnv } from './kafka.js';
