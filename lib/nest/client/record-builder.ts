import type { MessageHeaders } from '../../core/message/headers.js';
import type { MessageDestination } from '../../core/port/message.js';
import type { MessageOptions } from '../../core/publish/outgoing-message.js';

/** Data together with what is to be said about its message. Made by `StorkRecordBuilder`. @publicApi */
export class StorkRecord<T = unknown> {
  readonly data: T;
  readonly options: MessageOptions;

  constructor(data: T, options: MessageOptions) {
    this.data = data;
    this.options = options;
  }
}

/**
 * Builds the `data` argument of Nest's `send()` and `emit()` where a message needs options.
 *
 * @example
 * ```ts
 * client.emit('order.created', new StorkRecordBuilder(order).setKey(order.id).build());
 * ```
 *
 * @publicApi
 */
export class StorkRecordBuilder<T = unknown> {
  #data: T | undefined;
  #options: MessageOptions = {};

  constructor(data?: T) {
    this.#data = data;
  }

  setData(data: T): this {
    this.#data = data;
    return this;
  }

  /** Several at once; each replaces what was set before. */
  setOptions(options: MessageOptions): this {
    this.#options = { ...this.#options, ...options };
    return this;
  }

  setHeaders(headers: MessageHeaders): this {
    return this.setOptions({ headers });
  }

  setKey(key: string): this {
    return this.setOptions({ key });
  }

  setMessageId(messageId: string): this {
    return this.setOptions({ messageId });
  }

  setCorrelationId(correlationId: string): this {
    return this.setOptions({ correlationId });
  }

  setTimeoutMs(timeoutMs: number): this {
    return this.setOptions({ timeoutMs });
  }

  setExpiresInMs(expiresInMs: number): this {
    return this.setOptions({ expiresInMs });
  }

  setDelayMs(delayMs: number): this {
    return this.setOptions({ delayMs });
  }

  setPersistent(persistent: boolean): this {
    return this.setOptions({ persistent });
  }

  setPriority(priority: number): this {
    return this.setOptions({ priority });
  }

  setPartition(partition: number): this {
    return this.setOptions({ partition });
  }

  setContentType(contentType: string): this {
    return this.setOptions({ contentType });
  }

  setTimestamp(timestamp: number): this {
    return this.setOptions({ timestamp });
  }

  setAppId(appId: string): this {
    return this.setOptions({ appId });
  }

  setSignal(signal: AbortSignal): this {
    return this.setOptions({ signal });
  }

  setTo(to: MessageDestination): this {
    return this.setOptions({ to });
  }

  build(): StorkRecord<T> {
    return new StorkRecord(this.#data as T, this.#options);
  }
}
