import {
  memoryIdempotencyStore,
  type IdempotencyStore,
  type MemoryIdempotencyStoreOptions,
} from 'nestjs-stork';
import { systemClock } from '../../lib/core/runtime/clock.js';

/** A store that belongs to the test: several applications may share it. */
export function newMemoryStore(options: MemoryIdempotencyStoreOptions = {}): IdempotencyStore {
  return memoryIdempotencyStore(options).createStore({ clock: systemClock });
}
