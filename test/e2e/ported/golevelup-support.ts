import type { ArgumentsHost, ExceptionFilter } from '@nestjs/common';
import { Catch } from '@nestjs/common';
import { of, type Observable } from 'rxjs';
import { messageOf } from '../../../lib/core/runtime/errors.js';
import type { MessageCodec } from 'nestjs-stork';

/** In place of an error handler that replies: what the filter returns is the reply. */
@Catch()
export class ErrorsAsReplies implements ExceptionFilter {
  catch(error: unknown, _host: ArgumentsHost): Observable<unknown> {
    return of({ status: 'error', message: messageOf(error) });
  }
}

/** In place of `allowNonJsonMessages`: a body that is not JSON reaches the handler as text. */
export const lenientJson: MessageCodec = {
  contentType: 'application/json',
  encode: (value) => Buffer.from(JSON.stringify(value) ?? ''),
  decode: (body) => {
    const text = body.toString();
    try {
      return JSON.parse(text) as unknown;
    } catch {
      return text;
    }
  },
};

/** Bytes that say of themselves that they are JSON. */
export const asJson = { contentType: 'application/json' };
