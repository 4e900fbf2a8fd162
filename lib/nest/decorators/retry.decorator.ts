import { Reflector } from '@nestjs/core';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import {
  checkOptions,
  Integer,
  isFunction,
  OneOf,
  OptionalMatching,
} from '../validation/validate-options.js';

const RetryMetadata = Reflector.createDecorator<RetryOptions>();

/**
 * Says what happens after a run of a handler has failed; on a class, of all its handlers. Field by field a method's word wins over its
 * class's, and that over the transport's and the module's.
 *
 * @example
 * ```ts
 * @EventPattern<string>('order.created')
 * @Retry({ maxRetries: 2, delayMs: 100, redeliverDelaysMs: [5_000, 60_000], failOn: [InvalidOrderError] })
 * created(@Payload() order: OrderDto) {}
 * ```
 *
 * @publicApi
 */
export function Retry(options: RetryOptions): MethodDecorator & ClassDecorator {
  return RetryMetadata(options);
}

export const retryMetadataKey: string = RetryMetadata.KEY;

/** A queue's own lease ends with 49 days. */
const longestRedeliveryMs = 28 * 24 * 60 * 60 * 1_000;

const isFunctions = (value: unknown): boolean => Array.isArray(value) && value.every(isFunction);
const isDelay = (value: unknown): boolean =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= longestRedeliveryMs;
const matchers = 'a list of error classes and of functions that say whether an error is meant';

class RetrySchema {
  @Integer(0, 100_000)
  maxRetries?: unknown;
  @Integer(0)
  delayMs?: unknown;
  @OptionalMatching('a number from 1 up', (value) => Number.isFinite(value) && (value as number) >= 1)
  factor?: unknown;
  @Integer(0)
  maxDelayMs?: unknown;
  @OneOf('full', 'none')
  jitter?: unknown;
  @Integer(0)
  maxElapsedMs?: unknown;
  @OptionalMatching(matchers, isFunctions)
  retryOn?: unknown;
  @OptionalMatching(matchers, isFunctions)
  failOn?: unknown;
  @OptionalMatching('a function', isFunction)
  retryOnResult?: unknown;
  @OptionalMatching('a function', isFunction)
  onRetry?: unknown;
  @OptionalMatching(
    `a list of integers from 1 to ${longestRedeliveryMs}, 28 days`,
    (value) => Array.isArray(value) && value.every(isDelay),
  )
  redeliverDelaysMs?: unknown;
}

export function checkRetry(given: unknown, path: string): ConfigProblem[] {
  return checkOptions(RetrySchema, given, path);
}
