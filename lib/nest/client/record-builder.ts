import type { MessageHeaders } from '../../core/message/headers.js';
import type { MessageDestination } from '../../core/port/message.js';
import type { MessageOptions } from '../../core/publish/outgoing-message.js';

const brand = Symbol.for('nestjs-stork.record');

/** Data with the options of its message. Made by `StorkRecordBuilder`. @publicApi */
export class StorkRecord<T = unknown> {
  /** @internal */
  readonly [brand] = true;
  readonly data: T;
  readonly options: MessageOptions;

  constructor(data: T, options: MessageOptions) {
    this.data = data;
    this.options = options;
  }
}

/** Recognises the records of another copy of this package too. */
export function isStorkRecord(value: unknown): value is StorkRecord {
  return typeof value === 'object' && value !== null && brand in value;
}

/**
 * Builds the `data` argument of `send()` and `emit()` for a message with options.
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

  /** Sets several options; each given option replaces the previous value. */
  setOptions(options: MessageOptions): this {
    this.#options = { ...this.#options, ...options };
    return this;
  }

  /**
   * Headers of the application; replaces the headers set before. Names that begin with `stork-` are
   * refused.
   */
  setHeaders(headers: MessageHeaders): this {
    return this.setOptions({ headers });
  }

  /** Ordering key: messages with the same key are handled in order. */
  setKey(key: string): this {
    return this.setOptions({ key });
  }

  /** Id of the message, by which consumers recognise duplicates. @defaultValue a fresh UUID */
  setMessageId(messageId: string): this {
    return this.setOptions({ messageId });
  }

  /** Id of a request, unique among the pending requests; refused for an event. @defaultValue a new UUID */
  setRequestId(requestId: string): this {
    return this.setOptions({ requestId });
  }

  /** Correlation id, shared with related messages. @defaultValue that of the message being handled */
  setCorrelationId(correlationId: string): this {
    return this.setOptions({ correlationId });
  }

  /**
   * How long a request waits for its reply, or for the next item of a streamed one, in ms.
   *
   * @defaultValue 30 000
   */
  setTimeoutMs(timeoutMs: number): this {
    return this.setOptions({ timeoutMs });
  }

  /**
   * Time to live in milliseconds: the broker drops or dead-letters the message if it was not consumed by
   * then.
   */
  setExpiresInMs(expiresInMs: number): this {
    return this.setOptions({ expiresInMs });
  }

  /** How long the broker delays the delivery, in milliseconds. */
  setDelayMs(delayMs: number): this {
    return this.setOptions({ delayMs });
  }

  /** False: the message may be lost when the broker restarts. @defaultValue true */
  setPersistent(persistent: boolean): this {
    return this.setOptions({ persistent });
  }

  /** Priority from 0 to 255; the broker delivers higher ones first. */
  setPriority(priority: number): this {
    return this.setOptions({ priority });
  }

  /** Kafka partition, instead of the one chosen by the key. */
  setPartition(partition: number): this {
    return this.setOptions({ partition });
  }

  /** Content type, which selects the codec. @defaultValue the transport's `defaultContentType` */
  setContentType(contentType: string): this {
    return this.setOptions({ contentType });
  }

  /** Time of the event, in milliseconds since the Unix epoch. @defaultValue now */
  setTimestamp(timestamp: number): this {
    return this.setOptions({ timestamp });
  }

  /** Name of the sending application. */
  setAppId(appId: string): this {
    return this.setOptions({ appId });
  }

  /** Cancels a request that waits for its reply. A message that was sent stays sent. */
  setSignal(signal: AbortSignal): this {
    return this.setOptions({ signal });
  }

  /** Queue, exchange or topic, instead of the transport's own destination. */
  setTo(to: MessageDestination): this {
    return this.setOptions({ to });
  }

  build(): StorkRecord<T> {
    return new StorkRecord(this.#data as T, this.#options);
  }
}
