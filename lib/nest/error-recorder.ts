import { Injectable } from '@nestjs/common';
import type { PreRequestHook } from '@nestjs/common';
import { ApplicationConfig } from '@nestjs/core';
import { Observable } from 'rxjs';
import { recordOf, StorkContext } from './context.js';

/**
 * Nest's RPC exception filter turns every error into `Internal server error` before a transport sees it. This hook stands outside
 * guards, interceptors, pipes and handler, writes the original on the context, and does nothing else. Errors of a request-scoped
 * constructor happen before any hook; of those only Nest's own words are known.
 */
export const recordOriginalError: PreRequestHook = (execution, next) => {
  const context: unknown = execution.switchToRpc().getContext();
  if (!(context instanceof StorkContext)) return next();
  // Less than an operator: this stands in the way of every message, and only errors are of interest.
  return new Observable((subscriber) =>
    next().subscribe({
      next: (value) => subscriber.next(value),
      error: (error: unknown) => {
        recordOf(context).original = { error };
        subscriber.error(error);
      },
      complete: () => subscriber.complete(),
    }),
  );
};

/** Registers the hook for workers and for hybrid applications that inherit their configuration. */
@Injectable()
export class ErrorRecorder {
  constructor(config: ApplicationConfig) {
    config.registerPreRequestHook(recordOriginalError);
  }
}
