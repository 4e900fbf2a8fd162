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
  checkOptions,
} from '../nest/validation/validate-options.js';
import type { Exchange } from './topology/topology.js';

/** Options of `rabbitmq()`. @publicApi */
export interface RabbitMqOptions extends CommonTransportOptions {
  /** `amqp://user:password@host:5672/vhost` or `amqps://…`; several are tried in turn. */
  readonly url: string | readonly string[] | undefined;
  /** The queue that handlers consume, declared at start together with `<queue>.dlq`. */
  readonly queue?: string | undefined;
  /** Where messages are published with their pattern as routing key; every handler's pattern is bound. Durable. */
  readonly exchange?: Exchange;
  /** Type of the queue; its dead letter queue is a quorum queue in any case. A classic queue has no delivery limit. @defaultValue 'quorum' */
  readonly queueType?: 'quorum' | 'classic';
  /** Messages delivered and not settled; at most 32 of a quorum queue whose handlers are `at-most-once`. @defaultValue 2 × `concurrency` */
  readonly prefetch?: number;
  /**
   * Deliveries after which the broker itself gives a message to the dead letters. Every return counts, restarts too: of what was
   * prefetched, and of one message more where a shutdown settles many at once. @defaultValue 100
   */
  readonly deliveryLimit?: number;
  /**
   * How long the broker lets a consumer keep a message before it closes the channel; must be what the broker is configured with, a client
   * cannot ask. What handlers may keep a message waiting in place is held to half of it, and so
   * is a look at dead letters. @defaultValue 1 800 000
   */
  readonly consumerTimeoutMs?: number;
  /** Priorities from 0 to this; classic queues only. Quorum queues ignore priorities on RabbitMQ 3 and know two levels on 4. */
  readonly maxPriority?: number;
  /** Header in which the key travels. @defaultValue 'stork-key' */
  readonly keyHeader?: string;
  /** Queues that may be named as reply address, besides server-named ones. @defaultValue [] */
  readonly replyQueues?: readonly string[];
  /** Where messages go that name no destination. @defaultValue `exchange`, else `queue` */
  readonly publishTo?: MessageDestination;
  /** Messages that wait for a confirmation or for the broker to come back. @defaultValue 10 000 */
  readonly maxBufferedMessages?: number;
  /** Bytes of their bodies. @defaultValue 64 MiB */
  readonly maxBufferedBytes?: number;
  /** Back-off after a lost connection or channel, with full jitter. @defaultValue { delayMs: 500, maxDelayMs: 30 000 } */
  readonly reconnect?: BackoffOptions;
  /** Passed to `tls.connect` or `net.connect`, e.g. `ca`, `cert`, `key`. */
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

export function checkRabbitMqOptions(options: unknown, path: string): readonly ConfigProblem[] {
  const problems = checkOptions(RabbitMqSchema, options, path);
  if (!isRecord(options)) return problems;
  const given = options as Partial<RabbitMqOptions>;
  const expect = (holds: boolean, name: string, expected: string, value: unknown): void => {
    if (!holds) problems.push({ name: `${path}.${name}`, expected, given: printable(value) });
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
    "nothing: quorum queues have none; queueType 'classic' has",
    given.maxPriority,
  );
  expect(
    given.deliveryLimit === undefined || !isClassic,
    'deliveryLimit',
    'nothing: classic queues have none',
    given.deliveryLimit,
  );
  return problems;
}
