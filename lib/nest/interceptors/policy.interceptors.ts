import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import type { Observable } from 'rxjs';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import type { IdempotentOptions } from '../decorators/idempotent.decorator.js';

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
  readonly options: IdempotentOptions<Payload>;

  constructor(options: IdempotentOptions<Payload> = {}) {
    this.options = options;
  }

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}
