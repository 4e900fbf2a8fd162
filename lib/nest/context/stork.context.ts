import { randomUUID } from 'node:crypto';
import { BaseRpcContext } from '@nestjs/microservices';
import { correlationIdIn } from '../../core/publish/correlation-context.js';
import { StorkConfigError } from '../../core/runtime/errors.js';
import type { HandlerAttempt, HandlerDecision } from '../../core/consume/handler-attempt.js';
import {
  headerNames,
  headerText,
  readText,
  reservedPrefix,
  type MessageHeaders,
} from '../../core/message/headers.js';
import type { InboundMessage } from '../../core/port/message.js';
import { maxRequestedDelayMs } from '../../core/retry/retry-policy.js';
import { printable } from '../../core/message/text.js';

/**
 * Key of the property in which the patched filter of Nest keeps the error as thrown. Filter and context may
 * belong to different copies of this package.
 */
export const originalError: unique symbol = Symbol.for('nestjs-stork.original-error') as never;

const acknowledged: HandlerDecision = { kind: 'ack' };
const requeued: HandlerDecision = { kind: 'requeue' };
const rejected: HandlerDecision = { kind: 'reject' };

/**
 * The context that a handler gets by `@Ctx()`: the metadata of the message and the calls that settle it.
 * Each attempt of each handler has its own.
 *
 * @publicApi
 */
export class StorkContext extends BaseRpcContext<[message: InboundMessage, data: unknown]> {
  /** Name of the transport that received the message. */
  readonly transport: string;
  /** The pattern of the message, as the sender wrote it. */
  readonly pattern: string;
  /**
   * The error as thrown, before Nest's exception filters replaced it.
   * @internal
   */
  [originalError]: { readonly error: unknown } | undefined = undefined;
  readonly #attempt: HandlerAttempt;
  readonly #correlationHeaders: readonly string[] | undefined;
  #newCorrelationId: string | undefined;

  /**
   * Called by the library for each attempt.
   *
   * @param correlationHeaders of the `CorrelationInterceptor`s of the handler; undefined if it has none
   */
  constructor(transport: string, attempt: HandlerAttempt, correlationHeaders?: readonly string[]) {
    super([attempt.delivery.message, attempt.value]);
    this.transport = transport;
    this.pattern = attempt.pattern;
    this.#attempt = attempt;
    this.#correlationHeaders = correlationHeaders;
  }

  /**
   * Id of the message, set by the sender; the same on every delivery. For a message without one it is
   * `topic/partition/offset` on Kafka and undefined on RabbitMQ.
   */
  get messageId(): string | undefined {
    return this.#message.messageId;
  }

  /** Id of the request; undefined for events. */
  get requestId(): string | undefined {
    if (this.#attempt.metadata.reply.kind !== 'address') return undefined;
    return this.#message.correlationId ?? this.#message.messageId;
  }

  /**
   * Correlation id, shared by all messages that result from one original message or HTTP request, across
   * services. A message that carries none starts a correlation with its own id. With a
   * `CorrelationInterceptor` a message may carry it in a header of the application, and one without any id
   * gets a new UUID.
   */
  get correlationId(): string | undefined {
    const { headers } = this.#message;
    const given = readText(headers, headerNames.correlationId);
    if (given !== undefined) return given;
    if (this.#correlationHeaders === undefined) return this.#ownId;
    for (const name of this.#correlationHeaders) {
      const id = correlationIdIn(headers, name);
      if (id !== undefined) return id;
    }
    return this.#ownId ?? (this.#newCorrelationId ??= randomUUID());
  }

  get #ownId(): string | undefined {
    return this.#attempt.metadata.reply.kind === 'none'
      ? (this.#message.correlationId ?? this.#message.messageId)
      : this.#message.messageId;
  }

  /** Id of the message whose handler sent this message; undefined if no message handler did. */
  get causationId(): string | undefined {
    return readText(this.#message.headers, headerNames.causationId);
  }

  /** Ordering key: messages with the same key are handled in order. */
  get key(): string | undefined {
    return this.#message.key;
  }

  /**
   * Headers as the client library decoded them: RabbitMQ's are typed values, Kafka's are bytes. `header()`
   * reads one as text.
   */
  get headers(): MessageHeaders {
    return this.#message.headers;
  }

  /**
   * A header as text, on every broker: bytes are decoded as UTF-8, numbers and booleans written out, times
   * in ISO 8601. The first value of a repeated header counts.
   *
   * @returns undefined if the message has no such header, or its value is `null` or a table
   */
  header(name: string): string | undefined {
    return headerText(this.#message.headers, name);
  }

  /** The queue or topic that is consumed, also while the message is retried through another one. */
  get source(): string {
    return this.#message.origin.source;
  }

  /** Routing key of this delivery; of a retried message, the queue's name. Undefined on Kafka. */
  get routingKey(): string | undefined {
    return this.#message.origin.routingKey;
  }

  /** Partition of the record; undefined on RabbitMQ. */
  get partition(): number | undefined {
    return this.#message.origin.partition;
  }

  /** Offset in `partition`, as a decimal string; undefined on RabbitMQ. */
  get offset(): string | undefined {
    return this.#message.origin.offset;
  }

  /** Number of this attempt, from 1; in-process retries and redeliveries both count. */
  get attempt(): number {
    return this.#attempt.number;
  }

  /** Maximum number of attempts, by the handler's retry policy. */
  get maxAttempts(): number {
    return this.#attempt.maxAttempts;
  }

  /**
   * Time of the first failed attempt, in milliseconds since the Unix epoch; undefined if none has failed.
   */
  get firstFailedAt(): number | undefined {
    return this.#attempt.firstFailedAt;
  }

  /** True if the broker reports that it delivered the message before. */
  get redelivered(): boolean {
    return this.#attempt.delivery.redelivered;
  }

  /** Time set by the sender, in milliseconds since the Unix epoch. */
  get timestamp(): number | undefined {
    return this.#message.timestamp;
  }

  /**
   * Aborted on handler timeout, on loss of the channel or partition, or when the time for handlers of a
   * shutdown has passed. An error that a listener throws is logged.
   */
  get signal(): AbortSignal {
    return this.#attempt.signal;
  }

  /**
   * Marks the message as handled. A later error of the handler is logged and creates no dead letter; a
   * caller still gets the reply. With `delivery: 'manual'` the message is acknowledged at once, in every
   * attempt; otherwise when the handler has ended.
   *
   * @returns false if the call has no effect: an earlier call decided, or the message is settled, or its
   * channel or partition was lost
   */
  ack(): boolean {
    return this.#attempt.decide(acknowledged);
  }

  /**
   * Marks the message as not handled, whatever the handler does afterwards. With `delivery: 'manual'` it
   * may be called after the handler has returned.
   *
   * - `requeue: true`: the message is redelivered to all its handlers about a second after the handler has
   *   ended; a caller gets no reply yet. Until then it occupies no concurrency slot. After as many returns as
   *   the transport's `deliveryLimit` allows it becomes a dead letter with the reason `delivery-limit`.
   * - `requeue: false`: the message becomes a dead letter with the reason `rejected`; a caller gets an
   *   error. With `delivery: 'at-most-once'` this happens in both cases, because the message is
   *   acknowledged already.
   *
   * @param options `requeue` defaults to true
   * @returns false if the call has no effect: an earlier call decided, or the message is settled, or its
   * channel or partition was lost
   */
  nack({ requeue = true }: { readonly requeue?: boolean | undefined } = {}): boolean {
    return this.#attempt.decide(requeue ? requeued : rejected);
  }

  /**
   * Requests the next attempt, as a failure does, whatever the handler does afterwards. If no attempt is
   * left, an event becomes a dead letter and the caller of a request gets an error.
   *
   * @param options `delayMs`, from 0 to 86 400 000 (a day): the message is redelivered through the broker,
   * with the delay rounded up to one that the broker has a retry queue or topic for; where the broker
   * cannot redeliver it, the message waits in process. Without `delayMs` the handler's retry policy
   * applies.
   * @returns false if the call has no effect: an earlier call decided, or the message is settled, or its
   * channel or partition was lost
   * @throws StorkConfigError if `delayMs` is not an integer in that range
   */
  retry({ delayMs }: { readonly delayMs?: number | undefined } = {}): boolean {
    if (
      delayMs !== undefined &&
      !(Number.isInteger(delayMs) && delayMs >= 0 && delayMs <= maxRequestedDelayMs)
    ) {
      const expected = `an integer from 0 to ${maxRequestedDelayMs}, a day`;
      throw new StorkConfigError([{ name: 'ctx.retry({ delayMs })', expected, given: printable(delayMs) }]);
    }
    return this.#attempt.decide({ kind: 'retry', delayMs });
  }

  /**
   * Dead-letters the message with the reason `rejected`, whatever the handler does afterwards. A caller
   * gets an error.
   *
   * @param reason error message of the dead letter and of the caller's error
   * @returns false if the call has no effect: an earlier call decided, or the message is settled, or its
   * channel or partition was lost
   */
  deadLetter(reason: string): boolean {
    return this.#attempt.decide({ kind: 'reject', why: reason });
  }

  /** The message as the client library delivered it; `RabbitMqContext` and `KafkaContext` type it. */
  get raw(): unknown {
    return this.#message.raw;
  }

  /** The pattern, as `pattern`; for code written for the contexts of Nest. */
  getPattern(): string {
    return this.pattern;
  }

  /**
   * The message, for code written for the contexts of Nest: on RabbitMQ `raw`, on Kafka the record with its
   * key, value and headers decoded.
   */
  getMessage(): unknown {
    return this.raw;
  }

  /**
   * Metadata that a client attached by `setOnDispatchHook`: all text headers of at most 8192 characters,
   * without those of this library, the broker and Nest's transports.
   *
   * @returns undefined if there are none
   */
  getMetadata(): Record<string, string> | undefined {
    const message = this.#message;
    const isMetadata = (name: string): boolean =>
      !name.startsWith(reservedPrefix) && message.isProtocolHeader?.(name) !== true;
    const entries = Object.keys(message.headers)
      .filter(isMetadata)
      .map((name) => [name, readText(message.headers, name, 8_192)] as const)
      .filter((entry): entry is readonly [string, string] => entry[1] !== undefined);
    return entries.length === 0 ? undefined : Object.fromEntries(entries);
  }

  get #message(): InboundMessage {
    return this.#attempt.delivery.message;
  }
}
