import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin } from '../../core/runtime/with-timeout.js';
import { messageOf } from '../../core/runtime/errors.js';
import type { IdempotencyStore } from '../../core/idempotency/idempotency-store.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import { memoryIdempotencyStore } from '../../core/idempotency/memory-idempotency-store.js';

/**
 * The idempotency stores of one application: those in its options, and one in memory for handlers without
 * one.
 */
export class IdempotencyStores {
  readonly #clock: StorkClock;
  readonly #logger: StorkLogger;
  readonly #given = new Set<IdempotencyStore>();
  #memoryStore: IdempotencyStore | undefined;
  #closing: Promise<void> | undefined;

  constructor(clock: StorkClock, logger: StorkLogger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /** The application's shutdown closes a configured store, whether handlers use it or not. */
  add(given: IdempotencyStore | undefined): void {
    if (given !== undefined) this.#given.add(given);
  }

  /** For handlers whose transport and module configure no store. */
  inMemory(): IdempotencyStore {
    if (this.#memoryStore !== undefined) return this.#memoryStore;
    this.#logger.warn(
      'idempotent handlers have no store: handled messages are remembered in memory, by this process only and until it ends; ' +
        'share them with StorkModule.forRoot({ idempotency: { store: redisIdempotencyStore({ url }) } })',
    );
    this.#memoryStore = memoryIdempotencyStore({ clock: this.#clock });
    return this.#memoryStore;
  }

  /**
   * Closes each configured store once, also one that several transports share. Idempotent; never rejects.
   */
  close(limitMs: number): Promise<void> {
    this.#closing ??= Promise.all([...this.#given].map((store) => this.#close(store, limitMs))).then(
      () => {},
    );
    return this.#closing;
  }

  async #close(store: IdempotencyStore, limitMs: number): Promise<void> {
    const closed = (async () => store.close?.())().catch((error: unknown) =>
      this.#logger.warn(`the idempotency store did not close: ${messageOf(error)}`),
    );
    if (await settlesWithin(this.#clock, closed, limitMs)) return;
    this.#logger.warn(`the idempotency store did not close within ${limitMs} ms`);
  }
}
