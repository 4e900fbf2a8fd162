import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin } from '../../core/runtime/with-timeout.js';
import { messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import {
  isIdempotencyStore,
  isIdempotencyStoreDefinition,
  type IdempotencyStore,
  type IdempotencyStoreDefinition,
} from '../../core/idempotency/idempotency-store.js';
import { printable } from '../../core/message/text.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import { memoryIdempotencyStore } from '../../core/idempotency/memory-idempotency-store.js';

/** Used by handlers whose transport and module configure no store. */
const inMemory = memoryIdempotencyStore();

/**
 * The idempotency stores of one application. It makes the stores of definitions when handlers need them,
 * and closes them. A store that is an object in the options belongs to the user: another application of the
 * process may use it too.
 */
export class IdempotencyStores {
  readonly #clock: StorkClock;
  readonly #logger: StorkLogger;
  readonly #made = new Map<IdempotencyStoreDefinition, IdempotencyStore>();
  #closing: Promise<void> | undefined;

  constructor(clock: StorkClock, logger: StorkLogger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /**
   * The application's store for a configured one. A definition that several transports share has one store.
   *
   * @throws StorkConfigError if a definition of the user makes none
   */
  of(configured: IdempotencyStoreDefinition | IdempotencyStore): IdempotencyStore {
    if (!isIdempotencyStoreDefinition(configured)) return configured;
    const store = this.#made.get(configured) ?? this.#make(configured);
    this.#made.set(configured, store);
    return store;
  }

  /** For handlers whose transport and module configure no store. */
  inMemory(): IdempotencyStore {
    if (!this.#made.has(inMemory)) {
      this.#logger.warn(
        'idempotent handlers have no store: handled messages are remembered in memory, by this process only and until it ends; ' +
          'share them with StorkModule.forRoot({ idempotency: { store: redisIdempotencyStore({ url }) } })',
      );
    }
    return this.of(inMemory);
  }

  /** Closes each store that the application has made. Idempotent; never rejects. */
  close(limitMs: number): Promise<void> {
    this.#closing ??= Promise.all([...this.#made.values()].map((store) => this.#close(store, limitMs))).then(
      () => {},
    );
    return this.#closing;
  }

  #make(definition: IdempotencyStoreDefinition): IdempotencyStore {
    const store = this.#call(definition);
    if (isIdempotencyStore(store)) return store;
    throw new StorkConfigError([
      {
        name: 'idempotency.store',
        expected: 'createStore() to return a store with begin, renew, complete and release',
        given: printable(store),
      },
    ]);
  }

  /** `createStore` is user code: it may throw or return anything. */
  #call(definition: IdempotencyStoreDefinition): unknown {
    try {
      return definition.createStore({ clock: this.#clock });
    } catch (error) {
      if (error instanceof StorkConfigError) throw error;
      throw new StorkConfigError(`idempotency.store: createStore() failed: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  async #close(store: IdempotencyStore, limitMs: number): Promise<void> {
    const closed = (async () => store.close?.())().catch((error: unknown) =>
      this.#logger.warn(`the idempotency store did not close: ${messageOf(error)}`),
    );
    if (await settlesWithin(this.#clock, closed, limitMs)) return;
    this.#logger.warn(`the idempotency store did not close within ${limitMs} ms`);
  }
}
