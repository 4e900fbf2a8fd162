import { openOnMemory } from '../memory-orders.mjs';

/** One run, and nothing kept of what fails. */
const module = () => ({ retry: { maxRetries: 0 }, deadLetter: { enabled: false } });

export const open = (options) => openOnMemory(options, { module });
