import { messageOf } from './errors.js';
import type { StorkLogger } from './logger.js';

/** Says that the idempotency store fails, and that it is back: once for a trouble, not once for each message. */
export class StoreTrouble {
  readonly #subscription: string;
  readonly #logger: StorkLogger;
  #isDown = false;

  constructor(subscription: string, logger: StorkLogger) {
    this.#subscription = subscription;
    this.#logger = logger;
  }

  failed(error: unknown, onStoreError: 'fail' | 'process'): void {
    if (this.#isDown) return;
    this.#isDown = true;
    const why = messageOf(error);
    const what = `${this.#subscription}: the idempotency store fails`;
    if (onStoreError === 'process')
      this.#logger.warn(
        `${what}, idempotent handlers run without it and may run twice for a message: ${why}`,
      );
    else
      this.#logger.error(
        `${what}: messages of idempotent handlers wait until it works again, and what it was not told of may run twice: ${why}`,
      );
  }

  works(): void {
    if (!this.#isDown) return;
    this.#isDown = false;
    this.#logger.log(`${this.#subscription}: the idempotency store works again`);
  }
}
