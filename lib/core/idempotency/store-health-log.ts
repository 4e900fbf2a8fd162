import { messageOf } from '../runtime/errors.js';
import type { StorkLogger } from '../runtime/reporting.js';

/**
 * Logs that the idempotency store is unavailable and that it has recovered: once for each outage, not for
 * each message.
 */
export class StoreHealthLog {
  readonly #subscription: string;
  readonly #logger: StorkLogger;
  #isDown = false;

  constructor(subscription: string, logger: StorkLogger) {
    this.#subscription = subscription;
    this.#logger = logger;
  }

  down(error: unknown, onStoreError: 'fail' | 'process'): void {
    if (this.#isDown) return;
    this.#isDown = true;
    const reason = messageOf(error);
    const what = `${this.#subscription}: the idempotency store is unavailable`;
    if (onStoreError === 'process')
      this.#logger.warn(
        `${what}; idempotent handlers run without it and may process a message twice: ${reason}`,
      );
    else
      this.#logger.error(
        `${what}; messages of idempotent handlers wait until it recovers, ` +
          `and messages whose completion was not stored may be processed twice: ${reason}`,
      );
  }

  up(): void {
    if (!this.#isDown) return;
    this.#isDown = false;
    this.#logger.log(`${this.#subscription}: the idempotency store has recovered`);
  }
}
