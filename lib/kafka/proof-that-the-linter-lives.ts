import { memory } from '../memory/memory.js';
export const m = memory;