import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin } from '../../core/runtime/with-timeout.js';
import { messageOf } from '../../core/runtime/errors.js';
import type { IdempotencyStore } from '../../core/idempotency/idempotency-store.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import { memoryIdempotencyStore } from '../../core/idempotency/memory-idempotency-store.js';

/** The stores that an application's handlers use: the user's own, and one in memory where none was given. */
export class IdempotencyStores {
  readonly #clock: StorkClock;
  readonly #logger: StorkLogger;
  readonly #given = new Set<IdempotencyStore>();
  #own: IdempotencyStore | undefined;
  #closing: Promise<void> | undefined;

  constructor(clock: StorkClock, logger: StorkLogger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /** What the user gave is ours to close, whether handlers need it or not. */
  add(given: IdempotencyStore | undefined): void {
    if (given !== undefined) this.#given.add(given);
  }

  /** For handlers whose transport and module have none. */
  inMemory(): IdempotencyStore {
    if (this.#own !== undefined) return this.#own;
    this.#logger.warn(
      'idempotent handlers have no store: what they did is known to this process alone, and forgotten with it; ' +
        'StorkModule.forRoot({ idempotency: { store: redisIdempotencyStore({ url }) } }) shares it',
    );
    this.#own = memoryIdempotencyStore({ clock: this.#clock });
    return this.#own;
  }

  /** Each once, however many transports share it. Idempotent; never rejects. */
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
