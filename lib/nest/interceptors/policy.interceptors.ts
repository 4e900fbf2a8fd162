import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import type { Observable } from 'rxjs';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import type { IdempotentOptions } from '../decorators/idempotent.decorator.js';

/** Marks the class for every copy of this package; subclasses inherit it. */
const brand = Symbol.for('nestjs-stork.policy-interceptor');

type InterceptedPolicy = 'retry' | 'dead-letter' | 'idempotency';

/**
 * The options of `@Retry()` in the form of an interceptor: `@UseInterceptors(new RetryInterceptor({
 * maxRetries: 5 }))` on a class or method, or `app.useGlobalInterceptors(new RetryInterceptor({
 * maxRetries: 5 }))`.
 *
 * The options are read when handlers are bound. The retry policy wraps guards, interceptors, pipes,
 * handler and filters of each delivery, so `intercept()` itself only calls the next handler. HTTP handlers
 * are not retried.
 *
 * @publicApi
 */
export class RetryInterceptor implements NestInterceptor {
  /** @internal */
  static readonly [brand]: InterceptedPolicy = 'retry';
  readonly options: RetryOptions;

  constructor(options: RetryOptions = {}) {
    this.options = options;
  }

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

/**
 * The options of `@DeadLetter()` in the form of an interceptor. They are read when handlers are bound, as
 * those of `RetryInterceptor` are; `intercept()` itself only calls the next handler.
 *
 * @publicApi
 */
export class DeadLetterInterceptor implements NestInterceptor {
  /** @internal */
  static readonly [brand]: InterceptedPolicy = 'dead-letter';
  readonly options: DeadLetterOptions;

  constructor(options: DeadLetterOptions = {}) {
    this.options = options;
  }

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

/**
 * The options of `@Idempotent()` in the form of an interceptor. They are read when handlers are bound, as
 * those of `RetryInterceptor` are; `intercept()` itself only calls the next handler.
 *
 * @publicApi
 */
export class IdempotencyInterceptor<Payload = unknown> implements NestInterceptor {
  /** @internal */
  static readonly [brand]: InterceptedPolicy = 'idempotency';
  readonly options: IdempotentOptions<Payload>;

  constructor(options: IdempotentOptions<Payload> = {}) {
    this.options = options;
  }

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

/** The policy and the options of an interceptor or its class. */
export type InterceptorPolicy =
  | { readonly policy: 'retry'; readonly options: RetryOptions }
  | { readonly policy: 'dead-letter'; readonly options: DeadLetterOptions }
  | { readonly policy: 'idempotency'; readonly options: IdempotentOptions }
  | { readonly policy: 'unresolved' };

/** @returns undefined if it is no interceptor of a policy */
export function policyOf(interceptor: unknown): InterceptorPolicy | undefined {
  if (typeof interceptor === 'function') {
    const policy = brandOf(interceptor);
    if (policy === undefined) return undefined;
    // A subclass sets its options in its constructor, which has not run when only the class is known.
    return Object.hasOwn(interceptor, brand) ? { policy, options: {} } : { policy: 'unresolved' };
  }
  if (typeof interceptor !== 'object' || interceptor === null) return undefined;
  const policy = brandOf(interceptor.constructor);
  if (policy === undefined) return undefined;
  return { policy, options: (interceptor as { readonly options: object }).options };
}

function brandOf(type: unknown): InterceptedPolicy | undefined {
  return typeof type === 'function' && brand in type ? (type[brand] as InterceptedPolicy) : undefined;
}
