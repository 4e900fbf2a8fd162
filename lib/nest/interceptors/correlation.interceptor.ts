import { randomUUID } from 'node:crypto';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable } from 'rxjs';
import {
  currentCorrelation,
  enableCorrelationTracking,
  runInCorrelation,
} from '../../core/publish/correlation-context.js';
import { StorkConfigError } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';

/** Options of `CorrelationInterceptor`. @publicApi */
export interface CorrelationOptions {
  /** Header of an HTTP request that names its conversation; letter case does not matter. @defaultValue 'x-correlation-id' */
  readonly header?: string | undefined;
}

/**
 * Opens a conversation for what does not come by a message, e.g. an HTTP request: `@UseInterceptors(CorrelationInterceptor)` or
 * `app.useGlobalInterceptors(new CorrelationInterceptor())`. What its handler sends carries the conversation's id, that of the request's
 * header or a new one. Handlers of messages are in a conversation already, and pass.
 *
 * @throws StorkConfigError where the header is no name
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
    enableCorrelationTracking();
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (currentCorrelation() !== undefined) return next.handle();
    const correlation = { correlationId: this.#idFrom(context) ?? randomUUID(), messageId: undefined };
    return new Observable((subscriber) =>
      runInCorrelation(correlation, () => next.handle().subscribe(subscriber)),
    );
  }

  /** What a foreign client claims is taken as long as it can be an id. */
  #idFrom(context: ExecutionContext): string | undefined {
    if (context.getType() !== 'http') return undefined;
    const { headers } = context.switchToHttp().getRequest<{ readonly headers?: Record<string, unknown> }>();
    const id = headers?.[this.#header];
    return typeof id === 'string' && /^[\x21-\x7e]{1,255}$/.test(id) ? id : undefined;
  }
}
