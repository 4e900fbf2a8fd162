import { isObservable, type Observable, type Subscription } from 'rxjs';
import type { MessageHandler } from '@nestjs/microservices';
import { runInCorrelation } from '../../core/publish/correlation-context.js';
import type { Failure } from '../../core/runtime/failure.js';
import type { HandlerAttempt } from '../../core/consume/handler-attempt.js';
import { recordOf, type StorkContext } from '../context/stork.context.js';
import { describeFailure, unmask } from './error-mapping.js';

/** Nest's processing hooks around one run; `body` gets the function that ends it. What the hooks return says nothing of the run. */
export type ProcessingHooks = (
  context: StorkContext,
  body: (runEndHook: () => void) => Promise<void>,
) => void | Promise<void>;

/** A handler as Nest bound it, with what is the same for all its runs. */
export interface BoundHandler {
  readonly transport: string;
  readonly handler: MessageHandler;
  /** The transport's own kind of context. */
  readonly context: typeof StorkContext;
  /** Undefined where nobody has set a hook. */
  readonly withHooks: ProcessingHooks | undefined;
}

/** Runs a handler for one delivery, with a context of its own. Resolves when it has completed; never rejects. */
export function runHandler(bound: BoundHandler, run: HandlerAttempt): Promise<Failure | undefined> {
  const context = new bound.context(bound.transport, run);
  const { withHooks } = bound;
  // Most applications set none, and each costs two promises.
  if (withHooks === undefined) return runInCorrelation(context, callHandler, bound.handler, context, run);
  return new Promise((resolve) => {
    // A hook that throws, or never calls its body, must not keep the message's slot.
    const failByHook = (error: unknown): void => resolve(describeFailure(error));
    const body = async (runEndHook: () => void): Promise<void> => {
      const failure = await runInCorrelation(context, callHandler, bound.handler, context, run);
      resolve(failure);
      runEndHook();
    };
    try {
      const hooked = withHooks(context, body);
      if (hooked instanceof Promise) hooked.catch(failByHook);
    } catch (error) {
      failByHook(error);
    }
  });
}

/**
 * Calls a handler as Nest bound it, guards to filters, and waits until it has completed: a promise is done when it resolves, a
 * stream when it completes, empty or not. What counts is the final outcome, so an exception filter can turn failure into success.
 */
async function callHandler(
  handler: MessageHandler,
  context: StorkContext,
  run: HandlerAttempt,
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

/** Hands every value on; leaves a stream that nobody listens to any more, and one whose outcome no longer counts. */
function drainStream(stream: Observable<unknown>, run: HandlerAttempt): Promise<void> {
  return new Promise((resolve, reject) => {
    let hasLeft = false;
    // The first values may come before `subscribe` has returned.
    let subscription: Subscription | undefined;
    const leave = (): void => {
      hasLeft = true;
      subscription?.unsubscribe();
      resolve();
    };
    subscription = stream.subscribe({
      next: (value) => {
        if (hasLeft) return;
        try {
          if (!run.emit(value)) leave();
        } catch (error) {
          reject(error);
          leave();
        }
      },
      error: reject,
      complete: resolve,
    });
    if (hasLeft) subscription.unsubscribe();
    else if (!subscription.closed) run.onAbort(leave);
  });
}
