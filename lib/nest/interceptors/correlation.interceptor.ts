import { randomUUID } from 'node:crypto';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable } from 'rxjs';
import { currentCorrelation, runInCorrelation } from '../../core/publish/correlation-context.js';
import { StorkConfigError } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';

/** Options of `CorrelationInterceptor`. @publicApi */
export interface CorrelationOptions {
  /** HTTP request header with the correlation id; case-insensitive. @defaultValue 'x-correlation-id' */
  readonly header?: string | undefined;
}

/**
 * Opens a correlation context for work that does not start with a message, e.g. an HTTP request:
 * `@UseInterceptors(CorrelationInterceptor)` or `app.useGlobalInterceptors(new CorrelationInterceptor())`.
 *
 * Messages sent by the handler carry the correlation id of the request's header, or a new UUID. Message
 * handlers already run in the correlation context of their message; for them the interceptor does nothing.
 *
 * @throws StorkConfigError if `header` is not a non-empty string
 * @publicApi
 */
export class CorrelationInterceptor implements NestInterceptor {
  readonly #header: string;

  constructor({ header = 'x-correlation-id' }: CorrelationOptions = {}) {
    if (typeof header !== 'string' || header === '') {
      const expected = 'the name of a header';
      throw new StorkConfigError([
        { name: 'new CorrelationInterceptor({ header })', expected, given: printable(header) },
      ]);
    }
    this.#header = header.toLowerCase();
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (currentCorrelation() !== undefined) return next.handle();
    const correlation = { correlationId: this.#idFrom(context) ?? randomUUID(), messageId: undefined };
    return new Observable((subscriber) =>
      runInCorrelation(correlation, () => next.handle().subscribe(subscriber)),
    );
  }

  /**
   * Any HTTP client can set the header, so only 1 to 255 printable ASCII characters without spaces are
   * accepted.
   */
  #idFrom(context: ExecutionContext): string | undefined {
    if (context.getType() !== 'http') return undefined;
    const { headers } = context.switchToHttp().getRequest<{ readonly headers?: Record<string, unknown> }>();
    const id = headers?.[this.#header];
    return typeof id === 'string' && /^[\x21-\x7e]{1,255}$/.test(id) ? id : undefined;
  }
}
