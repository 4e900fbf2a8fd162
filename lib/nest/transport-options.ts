import type { UnhandledRedelivery } from '../core/consume/unhandled.js';
import type { DeadLetterOptions } from '../core/dead-letter/dead-letter-options.js';
import type { IdempotencyOptions } from '../core/idempotency/idempotency-options.js';
import type { MessageCodec } from '../core/message/codec.js';
import type { RetryOptions } from '../core/retry/retry-options.js';

/**
 * Options of every transport.
 *
 * @publicApi
 */
export interface CommonTransportOptions {
  /**
   * Which handlers the transport serves.
   *
   * - `all`: handlers without `via()`, and those whose `via()` or `@Via()` names this transport.
   * - `explicit`: only those whose `via()` or `@Via()` names this transport.
   * - `none`: no handlers; nothing is declared or consumed, for a transport that only sends.
   *
   * @defaultValue 'all'
   */
  readonly handlers?: 'all' | 'explicit' | 'none';
  /**
   * Whether the application's start waits for the transport.
   *
   * - `true`: `listen()` or `startAllMicroservices()` waits for the broker, and rejects after
   *   `startTimeoutMs` or when the broker refuses the connection or a declaration.
   * - `false`: the transport starts in the background. Without its broker the application runs, HTTP
   *   included, while the start is attempted again until it succeeds or the application is closed; a refusal
   *   is logged as an error and attempted again too. Messages sent meanwhile wait for the connection:
   *   `publish()` and `emit()` at most their `timeoutMs` (default `publishTimeoutMs`), requests at most
   *   theirs; no attempt to connect lasts longer than `startTimeoutMs`. `StorkService.state()` says that the
   *   transport has not started.
   *
   * Wrong options reject the start in either case.
   *
   * @defaultValue true
   */
  readonly required?: boolean;
  /**
   * Maximum number of messages handled concurrently. Messages that wait between in-process attempts, after
   * `ctx.nack()` or for the idempotency store do not count. @defaultValue 10
   */
  readonly concurrency?: number;
  /**
   * Maximum number of messages that wait between attempts, after `ctx.nack()` or for the store, at least
   * `concurrency`. While an outage makes that many wait, no further message starts. On RabbitMQ and memory
   * queues `prefetch` limits them too.
   *
   * @defaultValue ten times `concurrency`
   */
  readonly maxWaiting?: number;
  /**
   * Maximum length of a message body, in bytes. A longer one is dead-lettered with the reason `invalid`,
   * without being decoded.
   *
   * @defaultValue 16 777 216 (16 MiB)
   */
  readonly maxBodyBytes?: number;
  /**
   * Maximum number of requests that wait for their reply; a further one rejects with
   * `TooManyPendingError`.
   *
   * @defaultValue 10 000
   */
  readonly maxPending?: number;
  /**
   * How long `publish()` and `emit()` wait until the broker has confirmed the message, in milliseconds,
   * unless the message has a `timeoutMs`. Dead letters, retries and replies have no such limit: they wait
   * until they can be written.
   *
   * @defaultValue 30 000
   */
  readonly publishTimeoutMs?: number;
  /**
   * What happens to a message whose pattern has no handler in this process: it is dead-lettered with the
   * reason `no-handler`; or acknowledged and counted as `skipped`; or, with `{ redeliverMs, times }`, sent
   * back through the broker for another process of the service, up to `times` times, then dead-lettered. Not
   * on Kafka yet. On a log whose topics hold patterns of other services, their messages are sent back too.
   *
   * @defaultValue 'dead-letter' on RabbitMQ, whose queue has no other readers; 'skip' on Kafka, where
   * other consumer groups read the topic too
   */
  readonly onUnhandled?: 'dead-letter' | 'skip' | UnhandledRedelivery;
  /** Whether callers get name and message of unexpected errors. @defaultValue the module's `exposeErrors` */
  readonly exposeErrors?: boolean;
  /** Body codecs of this transport; they override the module's. @defaultValue [] */
  readonly codecs?: readonly MessageCodec[];
  /**
   * Content type of sent messages, and assumed for received messages without one.
   *
   * @defaultValue 'application/json'
   */
  readonly defaultContentType?: string;
  /** Retry options; each field overrides the module's. */
  readonly retry?: RetryOptions | undefined;
  /** Dead letter options; each field overrides the module's. */
  readonly deadLetter?: DeadLetterOptions | undefined;
  /** Idempotency options; each field overrides the module's. */
  readonly idempotency?: IdempotencyOptions | undefined;
}
