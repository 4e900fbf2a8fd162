import { openOnMemory } from '../memory-orders.mjs';

/** One attempt, and failed messages are dropped. */
const module = () => ({ retry: { maxRetries: 0 }, deadLetter: { enabled: false } });

export const open = (options) => openOnMemory(options, { module });
