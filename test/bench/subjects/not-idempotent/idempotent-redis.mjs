import { openOnMemory } from '../memory-orders.mjs';

export const open = (options) => openOnMemory(options);
