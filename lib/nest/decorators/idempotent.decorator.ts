import { Reflector } from '@nestjs/core';
import { Allow } from 'class-validator';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { IdempotencyTimes } from '../../core/idempotency/idempotency-options.js';
import type { IdempotencyStore } from '../../core/idempotency/idempotency-store.js';
import { printable } from '../../core/message/text.js';
import type { StorkContext } from '../context/stork.context.js';
import {
  checkOptions,
  Integer,
  isFunction,
  isRecord,
  OneOf,
  OptionalMatching,
} from '../validation/validate-options.js';

/**
 * How an idempotent handler knows its duplicates. What is left out is taken from the class, the transport, the module.
 *
 * @publicApi
 */
export interface IdempotentOptions<Payload = unknown> extends IdempotencyTimes {
  /**
   * By what a message is known, of the payload as it was decoded, before any pipe; undefined: this one has nothing, and runs. Other
   * handlers, and other queues or groups, keep keys of their own. What it throws, and anything but text, fails the run. @defaultValue a
   * request's own id, else `messageId`, on a log without one `topic/partition/offset`
   */
  readonly key?: ((payload: Payload, context: StorkContext) => string | undefined) | undefined;
}

const IdempotentMetadata = Reflector.createDecorator<IdempotentOptions>();

/**
 * A message that comes again is not handled again; on a class, for all its handlers. The duplicate of an event is settled without a run,
 * that of a request gets the same reply; one that comes while the first still runs waits. Only what was handled counts: a run that
 * failed, was rejected or asks for another leaves the message to be run. Field by field a method's word wins over its class's, and that
 * over the transport's and the module's.
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
  return IdempotentMetadata(options as IdempotentOptions);
}

export const idempotentMetadataKey: string = IdempotentMetadata.KEY;

/** Less would be renewed all the time. */
const shortestLeaseMs = 100;

class TimesSchema {
  @Integer(1)
  ttlMs?: unknown;
  @Integer(shortestLeaseMs)
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

export function checkIdempotent(given: unknown, path: string): ConfigProblem[] {
  return checkOptions(IdempotentSchema, given, path);
}

/** The module's, or a transport's. */
export function checkIdempotency(given: unknown, path: string): ConfigProblem[] {
  const problems = checkOptions(IdempotencySchema, given, path);
  const store = isRecord(given) ? given['store'] : undefined;
  if (store === undefined) return problems;
  return [...problems, ...checkStore(store, `${path}.store`)];
}

function checkStore(store: unknown, path: string): readonly ConfigProblem[] {
  if (isStore(store)) return store.validate?.(path) ?? [];
  return [
    { name: path, expected: 'a store with begin, renew, complete and release', given: printable(store) },
  ];
}

function isStore(value: unknown): value is IdempotencyStore {
  if (typeof value !== 'object' || value === null) return false;
  const { begin, renew, complete, release } = value as Record<keyof IdempotencyStore, unknown>;
  return [begin, renew, complete, release].every(isFunction);
}
