import { SetMetadata } from '@nestjs/common';
import { Allow } from 'class-validator';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { IdempotencyTimes } from '../../core/idempotency/idempotency-options.js';
import {
  isIdempotencyStore,
  isIdempotencyStoreDefinition,
} from '../../core/idempotency/idempotency-store.js';
import { printable } from '../../core/message/text.js';
import type { StorkContext } from '../context/stork.context.js';
import {
  validateOptions,
  Integer,
  isFunction,
  isRecord,
  OneOf,
  OptionalMatching,
} from '../validation/validate-options.js';

/**
 * Options of `@Idempotent()`. Omitted fields come from the class, then the transport, then the module.
 *
 * @publicApi
 */
export interface IdempotentOptions<Payload = unknown> extends IdempotencyTimes {
  /**
   * Derives the idempotency key from the decoded payload, before any pipe. Messages with the same key are
   * duplicates. `undefined`: the message has no key and is handled without idempotency. Keys are scoped to
   * the handler and to the queue (RabbitMQ) or consumer group (Kafka). An exception, or a result that is
   * not a string, fails the attempt.
   *
   * @defaultValue the request id of a request, the `messageId` of an event; on Kafka without a `messageId`
   * `topic/partition/offset`
   */
  readonly key?: ((payload: Payload, context: StorkContext) => string | undefined) | undefined;
}

export const idempotentMetadataKey = 'nestjs-stork:idempotent';

/**
 * Skips messages that the handler has already handled. On a class it applies to all its handlers.
 *
 * A duplicate event is acknowledged without calling the handler; a duplicate request gets the stored
 * reply. A duplicate that arrives while the first is still being handled waits. Only success is recorded:
 * after a failed or rejected attempt, or after `ctx.retry()`, the message is handled again.
 *
 * Options merge field by field: module < transport < class < method.
 *
 * @example
 * ```ts
 * @EventPattern<string>('order.created')
 * @Idempotent({ key: (order: OrderDto) => order.id })
 * created(@Payload() order: OrderDto) {}
 * ```
 *
 * @publicApi
 */
export function Idempotent<Payload = unknown>(
  options: IdempotentOptions<Payload> = {},
): MethodDecorator & ClassDecorator {
  return SetMetadata(idempotentMetadataKey, options);
}

/** A shorter lease would be renewed almost without a pause. */
const minLeaseMs = 100;

class TimesSchema {
  @Integer(1)
  ttlMs?: unknown;
  @Integer(minLeaseMs)
  leaseMs?: unknown;
  @OneOf('fail', 'process')
  onStoreError?: unknown;
}

class IdempotentSchema extends TimesSchema {
  @OptionalMatching('a function', isFunction)
  key?: unknown;
}

class IdempotencySchema extends TimesSchema {
  @Allow()
  store?: unknown;
}

export function validateIdempotentOptions(given: unknown, path: string): ConfigProblem[] {
  return validateOptions(IdempotentSchema, given, path);
}

/** Validates the `idempotency` option of the module or of a transport. */
export function validateIdempotencyOptions(given: unknown, path: string): ConfigProblem[] {
  const problems = validateOptions(IdempotencySchema, given, path);
  const store = isRecord(given) ? given['store'] : undefined;
  if (store === undefined) return problems;
  return [...problems, ...validateStore(store, `${path}.store`)];
}

function validateStore(store: unknown, path: string): readonly ConfigProblem[] {
  if (isIdempotencyStoreDefinition(store)) return store.validate(path);
  if (isIdempotencyStore(store)) return [];
  const expected =
    'redisIdempotencyStore(), memoryIdempotencyStore(), or a store with begin, renew, complete and release';
  return [{ name: path, expected, given: printable(store) }];
}
