import type { ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter } from '@nestjs/microservices';
import { recordError } from '../context/stork.context.js';

/** Marks the filter as patched, also for another copy of this package in the process. */
const isPatched = Symbol.for('nestjs-stork.records-errors');

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
  const filter = BaseRpcExceptionFilter.prototype;
  // oxlint-disable-next-line typescript/unbound-method -- called below with `this` of the patched method
  const original = filter.catch;
  if (isPatched in original) return;
  const recordThenCatch = function (this: BaseRpcExceptionFilter, exception: unknown, host: ArgumentsHost) {
    const context: unknown = host.switchToRpc().getContext();
    if (typeof context === 'object' && context !== null && recordError in context)
      (context as { [recordError](error: unknown): void })[recordError](exception);
    return original.call(this, exception, host);
  };
  filter.catch = Object.assign(recordThenCatch, { [isPatched]: true });
}
