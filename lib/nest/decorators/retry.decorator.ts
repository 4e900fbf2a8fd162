import { SetMetadata } from '@nestjs/common';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import {
  validateOptions,
  Integer,
  isFunction,
  isRedeliveryDelay,
  maxRedeliveryDelayMs,
  OneOf,
  OptionalMatching,
} from '../validation/validate-options.js';

export const retryMetadataKey = 'nestjs-stork:retry';

/**
 * Sets how failed attempts of a handler are retried. On a class it applies to all its handlers. Requests are
 * retried too, unless `requests: false`.
 *
 * Options merge field by field: module < transport < class < method.
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
  return SetMetadata(retryMetadataKey, options);
}

const isFunctions = (value: unknown): boolean => Array.isArray(value) && value.every(isFunction);
const matchers = 'a list of error classes and of predicates';

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
    `a list of integers from 1 to ${maxRedeliveryDelayMs}, 28 days`,
    (value) => Array.isArray(value) && value.every(isRedeliveryDelay),
  )
  redeliverDelaysMs?: unknown;
  @OptionalMatching('true or false', (value) => typeof value === 'boolean')
  requests?: unknown;
}

export function validateRetryOptions(given: unknown, path: string): ConfigProblem[] {
  return validateOptions(RetrySchema, given, path);
}
