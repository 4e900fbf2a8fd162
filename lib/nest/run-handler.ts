import { isObservable, type Observable } from 'rxjs';
import type { MessageHandler } from '@nestjs/microservices';
import type { Failure } from '../core/failure.js';
import type { HandlerRun } from '../core/handler-table.js';
import { recordOf, type StorkContext } from './context.js';
import { describeFailure, unmask } from './failure.js';

/**
 * Calls a handler as Nest bound it, guards to filters, and waits until it has completed: a promise is done when it resolves, a
 * stream when it completes, empty or not. What counts is the final outcome, so an exception filter can turn failure into success.
 */
export async function runNestHandler(
  handler: MessageHandler,
  context: StorkContext,
  run: HandlerRun,
): Promise<Failure | undefined> {
  try {
    const result: unknown = await handler(run.value, context);
    if (isObservable(result)) await drainStream(result, run);
    else run.emit(result);
    return undefined;
  } catch (error) {
    return describeFailure(unmask(error, recordOf(context).original));
  }
}

/** Hands every value on; leaves a stream that nobody listens to any more. */
function drainStream(stream: Observable<unknown>, run: HandlerRun): Promise<void> {
  return new Promise((resolve, reject) => {
    // The first value may come before `subscribe` has returned.
    let left = false;
    const subscription = stream.subscribe({
      next: (value) => {
        if (left) return;
        try {
          left = !run.emit(value);
        } catch (error) {
          left = true;
          reject(error as Error);
        }
        if (!left) return;
        resolve();
        queueMicrotask(() => subscription.unsubscribe());
      },
      error: reject,
      complete: resolve,
    });
  });
}
