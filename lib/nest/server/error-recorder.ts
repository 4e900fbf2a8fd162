import type { ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter } from '@nestjs/microservices';
import { recordOf, StorkContext } from '../context/stork.context.js';

let isRecording = false;

/**
 * Nest's RPC exception filter turns every error into `Internal server error` before a transport sees it. Here it writes the original on
 * the context first, for our messages alone, and does what it always did. Whatever fails ends there, in workers and in hybrid
 * applications, unless the user's own filter takes it: then that filter's word counts. A pre-request hook sees the same errors, but while
 * one is registered Nest wraps each message in six Observables, which doubles its price.
 */
export function recordOriginalErrors(): void {
  if (isRecording) return;
  isRecording = true;
  const filter = BaseRpcExceptionFilter.prototype;
  // oxlint-disable-next-line typescript/unbound-method -- it is called with the filter that it is called on
  const original = filter.catch;
  filter.catch = function recordThenCatch(exception: unknown, host: ArgumentsHost) {
    const context: unknown = host.switchToRpc().getContext();
    if (context instanceof StorkContext) recordOf(context).original = { error: exception };
    return original.call(this, exception, host);
  };
}
