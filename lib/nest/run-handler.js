import { isObservable } from 'rxjs';
import { recordOf } from './context.js';
import { describeFailure, unmask } from './failure.js';
/** Runs a handler for one delivery, with a context of its own. Resolves when it has completed; never rejects. */
export function runHandler(bound, run) {
  const context = new bound.context(bound.transport, run);
  const { withHooks } = bound;
  // Most applications set none, and each costs two promises.
  if (withHooks === undefined) return callHandler(bound.handler, context, run);
  return new Promise((resolve) => {
    // A hook that throws, or never calls its body, must not keep the message's slot.
    const failByHook = (error) => resolve(describeFailure(error));
    const body = async (runEndHook) => {
      const failure = await callHandler(bound.handler, context, run);
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
async function callHandler(handler, context, run) {
  try {
    const result = await handler(run.value, context);
    if (isObservable(result)) await drainStream(result, run);
    else run.emit(result);
    return undefined;
  } catch (error) {
    return describeFailure(unmask(error, recordOf(context).original));
  }
}
/** Hands every value on; leaves a stream that nobody listens to any more, and one whose outcome no longer counts. */
function drainStream(stream, run) {
  return new Promise((resolve, reject) => {
    let hasLeft = false;
    // The first values may come before `subscribe` has returned.
    let subscription;
    const leave = () => {
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
    else if (!subscription.closed) run.delivery.onAbort(leave);
  });
}
