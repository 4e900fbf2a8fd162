import type { ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter } from '@nestjs/microservices';
import { recordOf, StorkContext } from '../context/stork.context.js';

let isRecording = false;

/**
 * Nest's `BaseRpcExceptionFilter` replaces every error by `Internal server error` before the transport
 * sees it. The patched filter first records the original error on the context, only for messages of stork
 * transports, and then works as before. Every error reaches this filter, in workers and in hybrid
 * applications, unless a user's filter catches it; then the result of that filter decides.
 *
 * A pre-request hook would see the same errors, but while one is registered Nest wraps each message in six
 * Observables, which doubles the cost of a message.
 */
export function recordOriginalErrors(): void {
  if (isRecording) return;
  isRecording = true;
  const filter = BaseRpcExceptionFilter.prototype;
  // oxlint-disable-next-line typescript/unbound-method -- called below with `this` of the patched method
  const original = filter.catch;
  filter.catch = function recordThenCatch(exception: unknown, host: ArgumentsHost) {
    const context: unknown = host.switchToRpc().getContext();
    if (context instanceof StorkContext) recordOf(context).original = { error: exception };
    return original.call(this, exception, host);
  };
}
