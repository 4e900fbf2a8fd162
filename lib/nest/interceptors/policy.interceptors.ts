import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import type { Observable } from 'rxjs';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import type { IdempotentOptions } from '../decorators/idempotent.decorator.js';
import { policyBrand, type InterceptedPolicy } from './policy-brand.js';

/**
 * `@Retry()` as an interceptor. Bind it in any of Nest's ways:
 *
 * - `@UseInterceptors(RetryInterceptor)` on a class or method: the module's and the transport's options, and
 *   requests are retried too, as by `@Retry({})`. If the module sees a provider of the class, e.g.
 *   `{ provide: RetryInterceptor, useFactory: (config) => new RetryInterceptor(…) }`, its options hold.
 * - `@UseInterceptors(new RetryInterceptor({ maxRetries: 5 }))`, with options.
 * - `@UseInterceptors(PatientRetry)`, a subclass; its constructor may inject other providers.
 * - `APP_INTERCEPTOR` or `app.useGlobalInterceptors()`: for every handler, requests only with
 *   `requests: true`. In a hybrid application this needs no `inheritAppConfig`.
 *
 * Options merge field by field: module < transport < global < class < method; among several on one target the
 * last listed overrides, and `@Retry()` overrides them all.
 *
 * The options are read when handlers are bound, so an interceptor that is request-scoped or transient, or
 * injects something request-scoped, rejects the start with a `StorkConfigError`. The retry policy wraps
 * guards, interceptors, pipes, handler and filters of each delivery; `intercept()` itself only calls the next
 * handler. HTTP handlers are not retried.
 *
 * @publicApi
 */
export class RetryInterceptor implements NestInterceptor {
  /** @internal */
  static readonly [policyBrand]: InterceptedPolicy = 'retry';
  readonly options: RetryOptions;

  constructor(options: RetryOptions = {}) {
    this.options = options;
  }

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

/**
 * `@DeadLetter()` as an interceptor, bound, merged and read as a `RetryInterceptor`. Bound by its class it
 * dead-letters failed requests too; a global one does with `requests: true`.
 *
 * @publicApi
 */
export class DeadLetterInterceptor implements NestInterceptor {
  /** @internal */
  static readonly [policyBrand]: InterceptedPolicy = 'dead-letter';
  readonly options: DeadLetterOptions;

  constructor(options: DeadLetterOptions = {}) {
    this.options = options;
  }

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

/**
 * `@Idempotent()` as an interceptor, bound, merged and read as a `RetryInterceptor`. A global one makes every
 * handler idempotent.
 *
 * @publicApi
 */
export class IdempotencyInterceptor<Payload = unknown> implements NestInterceptor {
  /** @internal */
  static readonly [policyBrand]: InterceptedPolicy = 'idempotency';
  readonly options: IdempotentOptions<Payload>;

  constructor(options: IdempotentOptions<Payload> = {}) {
    this.options = options;
  }

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}
