export { MemoryBroker } from './broker/memory-broker.js';
export { memory } from './memory.js';
export type { MemoryOptions } from './options.js';
export { VirtualClock } from './virtual-clock.js';
