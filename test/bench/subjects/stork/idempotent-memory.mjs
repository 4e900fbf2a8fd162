import { Idempotent, memoryIdempotencyStore } from 'nestjs-stork';
import { openOnMemory } from '../memory-orders.mjs';

export const open = (options) =>
  openOnMemory(options, {
    on: [Idempotent()],
    module: () => ({ idempotency: { store: memoryIdempotencyStore({ maxKeys: 100_000 }) } }),
  });
