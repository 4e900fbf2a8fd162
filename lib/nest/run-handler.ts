import { isObservable, type Observable } from 'rxjs';
import type { MessageHandler } from '@nestjs/microservices';
import type { Failure } from '../core/failure.js';
import type { HandlerRun } from '../core/handler-table.js';
import { recordOf, StorkContext } from './context.js';
import { describeFailure, unmask } from './failure.js';

/** Nest's processing hooks around one run; `body` gets the function that ends it. What the hooks return says nothing. */
export type ProcessingHooks = (
  context: StorkContext,
  body: (runEndHook: () => void) => Promise<void>,
) => void;

/** Runs a handler for one delivery, with a context of its own. Resolves when it has completed; never rejects. */
export function runHandler(
  transport: string,
  handler: MessageHandler,
  run: HandlerRun,
  withHooks: ProcessingHooks,
): Promise<Failure | undefined> {
  const context = new StorkContext(transport, run);
  return new Promise((resolve) => {
    withHooks(context, async (runEndHook) => {
      const failure = await callHandler(handler, context, run);
      runEndHook();
      resolve(failure);
    });
  });
}

/**
 * Calls a handler as Nest bound it, guards to filters, and waits until it has completed: a promise is done when it resolves, a
 * stream when it completes, empty or not. What counts is the final outcome, so an exception filter can turn failure into success.
 */
async function callHandler(
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
          reject(error);
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
