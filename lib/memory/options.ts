import { Allow } from 'class-validator';
import type { ConfigProblem } from '../core/runtime/errors.js';
import { validTopicName } from '../driver-kit/log/topic-names.js';
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
import { MemoryBroker } from './broker/memory-broker.js';

/**
 * Options of `memory()`. They have the meaning of the RabbitMQ options in mode `queue`, of the Kafka
 * options in mode `log`.
 *
 * @publicApi
 */
export interface MemoryOptions extends CommonTransportOptions {
  /** @defaultValue 'queue' */
  readonly mode?: 'queue' | 'log';
  /** Transports with the same broker exchange messages. @defaultValue one broker per application */
  readonly broker?: MemoryBroker;

  /** Mode `queue`. The queue that handlers consume; declared at start together with `<queue>.dlq`. */
  readonly queue?: string | undefined;
  /**
   * Mode `queue`. Messages are published to it with their pattern as routing key; the pattern of every
   * handler is bound to it.
   */
  readonly exchange?: { readonly name: string; readonly type: 'direct' | 'topic' | 'fanout' | 'headers' };
  /**
   * Mode `queue`. Limit of unacknowledged messages, those that wait in process included.
   * @defaultValue 2 × `concurrency`
   */
  readonly prefetch?: number;
  /**
   * How often a message may be requeued before it is dead-lettered with the reason `delivery-limit`. In mode
   * `queue` the broker counts every return, in mode `log` the transport counts `ctx.nack()` alone.
   * @defaultValue 100
   */
  readonly deliveryLimit?: number;
  /**
   * Mode `queue`. The highest priority; higher priorities are delivered first.
   *
   * @defaultValue none: no priorities
   */
  readonly maxPriority?: number;
  /** Mode `queue`. Header that holds the message key. @defaultValue 'stork-key' */
  readonly keyHeader?: string;
  /** Mode `queue`. Queues allowed as reply addresses, besides server-named ones. @defaultValue [] */
  readonly replyQueues?: readonly string[];

  /**
   * Mode `log`. One topic for the messages of all patterns. Without `topic` and `topics` the pattern of
   * each handler is a topic.
   */
  readonly topic?: string | undefined;
  /** Mode `log`. Topics to read; a RegExp matches topics created later as well. */
  readonly topics?: readonly (string | RegExp)[];
  /** Mode `log`. Header that holds the pattern. @defaultValue none: the topic is the pattern */
  readonly patternHeader?: string;
  /**
   * Mode `log`. Consumer group; its members share the partitions.
   *
   * @defaultValue the name of the transport
   */
  readonly groupId?: string | undefined;
  /** Mode `log`. Partitions of the topics created at start. @defaultValue 3 */
  readonly partitions?: number;
  /**
   * Mode `log`. Whether a group without committed offsets starts at the beginning.
   *
   * @defaultValue false: at the end
   */
  readonly fromBeginning?: boolean;
  /** Mode `log`. Topics allowed as reply addresses, besides those that end in `.reply`. @defaultValue [] */
  readonly replyTopics?: readonly string[];

  /**
   * Destination of messages without `to`.
   *
   * @defaultValue `exchange`, else `queue`; `topic`, else the pattern
   */
  readonly publishTo?: MessageDestination;
}

const queueOnly = ['queue', 'exchange', 'prefetch', 'maxPriority', 'keyHeader', 'replyQueues'] as const;
const logOnly = [
  'topic',
  'topics',
  'patternHeader',
  'groupId',
  'partitions',
  'fromBeginning',
  'replyTopics',
] as const;
const exchangeTypes = ['direct', 'topic', 'fanout', 'headers'];

const isText = (value: unknown): boolean => typeof value === 'string' && value !== '';
const isTextList = (value: unknown): boolean => Array.isArray(value) && value.every(isText);

class MemorySchema extends CommonTransportSchema {
  @OneOf('queue', 'log')
  mode?: unknown;
  @OptionalMatching('a MemoryBroker', (value) => value instanceof MemoryBroker)
  broker?: unknown;
  @Allow()
  queue?: unknown;
  @OptionalMatching(`{ name, type } with a type of ${exchangeTypes.join(', ')}`, isExchange)
  exchange?: unknown;
  @Integer(1, 65_535)
  prefetch?: unknown;
  @Integer(1)
  deliveryLimit?: unknown;
  @Integer(1, 255)
  maxPriority?: unknown;
  @Text()
  keyHeader?: unknown;
  @OptionalMatching('a list of queue names', isTextList)
  replyQueues?: unknown;
  @Text()
  topic?: unknown;
  @OptionalMatching(
    'a list of topic names and RegExps',
    (value) =>
      Array.isArray(value) &&
      value.length > 0 &&
      value.every((topic) => isText(topic) || topic instanceof RegExp),
  )
  topics?: unknown;
  @Text()
  patternHeader?: unknown;
  @Text()
  groupId?: unknown;
  @Integer(1, 10_000)
  partitions?: unknown;
  @OptionalMatching('true or false', (value) => typeof value === 'boolean')
  fromBeginning?: unknown;
  @OptionalMatching('a list of topic names', isTextList)
  replyTopics?: unknown;
  @OptionalMatching('{ queue }, { exchange, routingKey } or { topic }', isDestination)
  publishTo?: unknown;
}

export function validateMemoryOptions(options: unknown, path: string): readonly ConfigProblem[] {
  const problems = validateOptions(MemorySchema, options, path);
  if (typeof options !== 'object' || options === null) return problems;
  const given = options as MemoryOptions;
  const mode = given.mode === 'log' ? 'log' : 'queue';
  for (const name of mode === 'log' ? queueOnly : logOnly) {
    if (given[name] === undefined) continue;
    const other = mode === 'log' ? 'queue' : 'log';
    problems.push({
      name: `${path}.${name}`,
      expected: `nothing: it belongs to the mode '${other}'`,
      given: printable(given[name]),
    });
  }
  if (mode === 'queue' && !isText(given.queue) && needsQueue(given)) {
    problems.push({
      name: `${path}.queue`,
      expected: 'the name of the queue',
      given: printable(given.queue),
    });
  }
  for (const name of [given.topic, ...(Array.isArray(given.topics) ? (given.topics as unknown[]) : [])]) {
    if (typeof name !== 'string' || validTopicName.test(name)) continue;
    problems.push({
      name: `${path}.topic`,
      expected: 'letters, digits, _, . and -, at most 249',
      given: printable(name),
    });
  }
  if (given.publishTo !== undefined && mode === 'log' && !('topic' in given.publishTo)) {
    problems.push({ name: `${path}.publishTo`, expected: '{ topic }', given: printable(given.publishTo) });
  }
  if (given.publishTo !== undefined && mode === 'queue' && 'topic' in given.publishTo) {
    problems.push({
      name: `${path}.publishTo`,
      expected: '{ queue } or { exchange }',
      given: printable(given.publishTo),
    });
  }
  if (mode === 'log' && given.topic !== undefined && given.topics !== undefined) {
    problems.push({
      name: `${path}.topics`,
      expected: 'nothing beside topic',
      given: printable(given.topics),
    });
  }
  return problems;
}

/** A transport without handlers needs a queue only if no other destination is configured. */
function needsQueue({ handlers, exchange, publishTo }: MemoryOptions): boolean {
  return handlers !== 'none' || (exchange === undefined && publishTo === undefined);
}

function isExchange(value: unknown): boolean {
  const exchange = value as { name?: unknown; type?: unknown } | null;
  return isText(exchange?.name) && exchangeTypes.includes(exchange!.type as string);
}

function isDestination(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const kinds = ['queue', 'exchange', 'topic'].filter((kind) => kind in value);
  return kinds.length === 1 && Object.values(value).every(isText);
}
