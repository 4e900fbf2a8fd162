import { randomUUID } from 'node:crypto';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { Observable } from 'rxjs';
import {
  correlationIdIn,
  currentCorrelation,
  runInCorrelation,
} from '../../core/publish/correlation-context.js';
import { StorkConfigError } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import { printable } from '../../core/message/text.js';
import { policyBrand, type InterceptedPolicy } from './policy-brand.js';

/** Options of `CorrelationInterceptor`. @publicApi */
export interface CorrelationOptions {
  /**
   * Header of HTTP requests and messages with the correlation id; case-insensitive. A value other than 1 to
   * 255 printable ASCII characters without spaces counts as absent. @defaultValue 'x-correlation-id'
   */
  readonly header?: string | undefined;
}

/**
 * Gives the messages that a handler sends a correlation id, which they share with what caused them:
 * `@UseInterceptors(CorrelationInterceptor)` or `app.useGlobalInterceptors(new CorrelationInterceptor())`.
 *
 * - Of an HTTP request it is the id in its header, else a new UUID.
 * - Of a message it is its `stork-correlation-id`, else the id in the header, else the message's own id, else
 *   a new UUID for each attempt; `ctx.correlationId` is the same. Without the interceptor the header is not
 *   read, a message without any id has none, and the ids of messages are passed on only where the application
 *   injects a client.
 *
 * Of several interceptors the innermost whose header has an id decides: method before class before global.
 * Like the other policies it is read for message handlers when they are bound, so that it covers guards,
 * pipes and filters too. A provider of the class gives its options to message handlers alone, because Nest
 * makes the instance that HTTP handlers call.
 *
 * @throws StorkConfigError if `header` is not a non-empty string
 * @publicApi
 */
export class CorrelationInterceptor implements NestInterceptor {
  /** @internal */
  static readonly [policyBrand]: InterceptedPolicy = 'correlation';
  readonly options: CorrelationOptions;
  readonly #header: string;

  constructor(options: CorrelationOptions = {}) {
    this.options = options;
    this.#header = headerOf(options);
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const given = this.#idFrom(context);
    if (given === undefined && currentCorrelation() !== undefined) return next.handle();
    const correlation = { correlationId: given ?? randomUUID(), messageId: undefined };
    return new Observable((subscriber) =>
      runInCorrelation(correlation, () => next.handle().subscribe(subscriber)),
    );
  }

  #idFrom(context: ExecutionContext): string | undefined {
    if (context.getType() !== 'http') return undefined;
    const { headers } = context.switchToHttp().getRequest<{ readonly headers?: MessageHeaders }>();
    return headers === undefined ? undefined : correlationIdIn(headers, this.#header);
  }
}

/** The header of the options, in lower case. */
export function headerOf({ header = 'x-correlation-id' }: CorrelationOptions): string {
  if (typeof header === 'string' && header !== '') return header.toLowerCase();
  const expected = 'the name of a header';
  throw new StorkConfigError([
    { name: 'new CorrelationInterceptor({ header })', expected, given: printable(header) },
  ]);
}
