import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import type { Observable } from 'rxjs';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import type { IdempotentOptions } from '../decorators/idempotent.decorator.js';

/**
 * For those who bind by hand: `@UseInterceptors(new RetryInterceptor({ maxRetries: 5 }))` on a method or class, or
 * `app.useGlobalInterceptors(…)`, says what `@Retry()` says. It is read when handlers are bound; the policy itself runs around guards,
 * interceptors, pipes, handler and filters, once for each delivery, so that this class lets everything pass. An HTTP handler that it is
 * bound to gets nothing of it.
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
 * For those who bind by hand, what `@DeadLetter()` says; like `RetryInterceptor` it is read when handlers are bound and lets everything
 * pass.
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
 * For those who bind by hand, what `@Idempotent()` says; like `RetryInterceptor` it is read when handlers are bound and lets everything
 * pass.
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
