export type { MemoryMessage } from './broker/message.js';
export { MemoryBroker } from './broker/memory-broker.js';
export type { MemoryBrokerOptions } from './broker/memory-broker.js';
export type { MemoryQueue } from './broker/queues/memory-queue.js';
export type { MemoryTopic } from './broker/topics/memory-topic.js';
export { memory } from './memory.js';
export type { MemoryOptions } from './options.js';
export { VirtualClock } from './virtual-clock.js';
