import { Allow } from 'class-validator';
import type { SocketOptions } from 'amqplib';
import type { BackoffOptions } from '../core/runtime/clock.js';
import type { ConfigProblem } from '../core/runtime/errors.js';
import type { MessageDestination } from '../core/port/message.js';
import { printable } from '../core/message/text.js';
import type { CommonTransportOptions } from '../nest/transport-options.js';
import {
  CommonTransportSchema,
  Integer,
  OneOf,
  OptionalMatching,
  Text,
  validateOptions,
} from '../nest/validation/validate-options.js';
import type { RabbitMqExchange } from './topology/topology.js';

/** Options of `rabbitmq()`. @publicApi */
export interface RabbitMqOptions extends CommonTransportOptions {
  /**
   * `amqp://user:password@host:5672/vhost` or `amqps://…`. With several, each connection attempt uses the
   * next one.
   */
  readonly url: string | readonly string[] | undefined;
  /**
   * The queue that handlers consume. Declared at start, together with its dead letter queue `<queue>.dlq`.
   */
  readonly queue?: string | undefined;
  /**
   * The durable exchange that messages are published to, with their pattern as routing key. The queue is
   * bound to it with the pattern of every handler.
   */
  readonly exchange?: RabbitMqExchange;
  /**
   * Type of the queue. A classic queue has no delivery limit. The dead letter queue and retry queues are
   * always quorum queues. @defaultValue 'quorum'
   */
  readonly queueType?: 'quorum' | 'classic';
  /**
   * Maximum number of unacknowledged messages of the consumer, those that wait in process included. It is
   * capped at 32 on a quorum queue with `at-most-once` handlers. @defaultValue 2 × `concurrency`
   */
  readonly prefetch?: number;
  /**
   * `x-delivery-limit` of the quorum queue: how often a message may be returned before the broker
   * dead-letters it. Every return counts: by `ctx.nack()`, and of prefetched messages when the application
   * restarts. Waits in process do not count. A shutdown may return one further message. @defaultValue 100
   */
  readonly deliveryLimit?: number;
  /**
   * The broker's `consumer_timeout` in milliseconds, after which it closes a channel with an unacknowledged
   * message. It must equal the broker's configuration, which AMQP clients cannot read. In-process retries
   * and each channel of a dead letter scan are limited to half of it. @defaultValue 1 800 000
   */
  readonly consumerTimeoutMs?: number;
  /**
   * `x-max-priority` of a classic queue, from 1 to 255. Quorum queues ignore priorities on RabbitMQ 3 and
   * have two priority levels on RabbitMQ 4.
   */
  readonly maxPriority?: number;
  /** Name of the header with the message key. @defaultValue 'stork-key' */
  readonly keyHeader?: string;
  /**
   * Queues that are allowed as reply address, in addition to direct reply-to and server-named queues.
   * @defaultValue []
   */
  readonly replyQueues?: readonly string[];
  /** Destination of messages without `to`. @defaultValue `exchange`, else `queue` */
  readonly publishTo?: MessageDestination;
  /** Limit of unconfirmed messages, those buffered while disconnected included. @defaultValue 10 000 */
  readonly maxBufferedMessages?: number;
  /** Limit of the bytes of their bodies. @defaultValue 64 MiB */
  readonly maxBufferedBytes?: number;
  /**
   * Exponential back-off with full jitter after the loss of a connection or channel, in milliseconds.
   * @defaultValue { delayMs: 500, maxDelayMs: 30 000 }
   */
  readonly reconnect?: BackoffOptions;
  /** Options for `tls.connect` or `net.connect`, e.g. `ca`, `cert`, `key`. */
  readonly socket?: SocketOptions;
}

const exchangeTypes = ['direct', 'topic', 'fanout'];
const isText = (value: unknown): boolean => typeof value === 'string' && value !== '';
const isUrl = (value: unknown): boolean =>
  typeof value === 'string' && /^amqps?:\/\/./.test(value) && URL.canParse(value);
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;
const isPositive = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0;

class RabbitMqSchema extends CommonTransportSchema {
  @Allow()
  url?: unknown;
  @Allow()
  queue?: unknown;
  @OptionalMatching(
    `{ name, type } with a type of ${exchangeTypes.join(', ')}`,
    (value) => isRecord(value) && isText(value['name']) && exchangeTypes.includes(value['type'] as string),
  )
  exchange?: unknown;
  @OneOf('quorum', 'classic')
  queueType?: unknown;
  @Integer(1, 65_535)
  prefetch?: unknown;
  @Integer(1)
  deliveryLimit?: unknown;
  @Integer(1)
  consumerTimeoutMs?: unknown;
  @Integer(1, 255)
  maxPriority?: unknown;
  @Text()
  keyHeader?: unknown;
  @OptionalMatching('a list of queue names', (value) => Array.isArray(value) && value.every(isText))
  replyQueues?: unknown;
  @OptionalMatching(
    '{ queue } or { exchange, routingKey }',
    (value) => isRecord(value) && (isText(value['queue']) || isText(value['exchange'])),
  )
  publishTo?: unknown;
  @Integer(1)
  maxBufferedMessages?: unknown;
  @Integer(1)
  maxBufferedBytes?: unknown;
  @OptionalMatching(
    '{ delayMs, maxDelayMs } in positive integers',
    (value) => isRecord(value) && isPositive(value['delayMs']) && isPositive(value['maxDelayMs']),
  )
  reconnect?: unknown;
  @OptionalMatching('an object of socket options', isRecord)
  socket?: unknown;
}

export function validateRabbitMqOptions(options: unknown, path: string): readonly ConfigProblem[] {
  const problems = validateOptions(RabbitMqSchema, options, path);
  if (!isRecord(options)) return problems;
  const given = options as Partial<RabbitMqOptions>;
  const expect = (isValid: boolean, name: string, expected: string, value: unknown): void => {
    if (!isValid) problems.push({ name: `${path}.${name}`, expected, given: printable(value) });
  };
  const urls = Array.isArray(given.url) ? (given.url as readonly unknown[]) : [given.url];
  expect(urls.length > 0 && urls.every(isUrl), 'url', 'amqp://… or amqps://…, or a list of them', given.url);
  const sendsOnly =
    given.handlers === 'none' && (given.exchange !== undefined || given.publishTo !== undefined);
  expect(isText(given.queue) || sendsOnly, 'queue', 'the name of the queue', given.queue);
  const isClassic = given.queueType === 'classic';
  expect(
    given.maxPriority === undefined || isClassic,
    'maxPriority',
    "no value: only a queue of queueType 'classic' has priorities",
    given.maxPriority,
  );
  expect(
    given.deliveryLimit === undefined || !isClassic,
    'deliveryLimit',
    'no value: classic queues have no delivery limit',
    given.deliveryLimit,
  );
  return problems;
}
