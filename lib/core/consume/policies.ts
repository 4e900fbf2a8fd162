import { withIdempotency } from '../idempotency/idempotency-policy.js';
import { quoted } from '../message/text.js';
import { withRetries } from '../retry/retry-loop.js';
import { HandlerTimeoutError, messageOf } from '../runtime/errors.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import type { Attempt, Execute } from './attempt.js';
import type { SubscriptionScope } from './delivery-context.js';
import type { Handler } from './handler.js';
import { handled } from './outcome.js';

/** A handler with what surrounds its calls. */
export interface ExecutableHandler extends Handler {
  readonly execute: Execute;
}

/**
 * Composes what surrounds the calls of a handler, once at boot: a time limit for each attempt, retries after
 * a failed one, idempotency around all. What the handler does not have is not in the chain.
 */
export function composePolicies(handler: Handler, scope: SubscriptionScope): ExecutableHandler {
  const call = withTimeLimit(handler, scope);
  const attempts: Execute = (attempt) =>
    call(attempt).then((failure) => {
      const outcome = attempt.end(failure);
      return outcome === handled ? outcome : withRetries(attempt, outcome, attempts);
    });
  const { idempotency } = handler;
  const execute = idempotency === undefined ? attempts : withIdempotency(attempts, idempotency, scope);
  return { ...handler, execute };
}

/** How long the other messages of the key wait for a timed-out attempt to end. */
const graceMs = 5_000;

/** Calls the handler. Resolves with the failure if it has failed. Never rejects. */
type Call = (attempt: Attempt) => Promise<Failure | undefined>;

/** Applies the handler's `timeoutMs`: a call that exceeds it fails, and what it does later is ignored. */
export function withTimeLimit(handler: Handler, scope: SubscriptionScope): Call {
  const limitMs = handler.consume?.timeoutMs;
  if (limitMs === undefined) return (attempt) => handler.run(attempt);
  return (attempt) => callWithin(limitMs, handler, { attempt, scope });
}

async function callWithin(
  limitMs: number,
  handler: Handler,
  { attempt, scope }: { readonly attempt: Attempt; readonly scope: SubscriptionScope },
): Promise<Failure | undefined> {
  const { subscription, logger } = scope;
  const call = handler.run(attempt);
  if ((await waitFor(call, limitMs, { attempt, scope })) !== 'late') return call;
  const error = new HandlerTimeoutError(`the handler did not end within ${limitMs} ms`);
  attempt.expire(error);
  const who = `${subscription}: handler ${quoted(handler.id)}, message ${quoted(attempt.delivery.message.messageId)}`;
  void call.then((failure) => {
    const how = failure === undefined ? 'ended' : `failed: ${messageOf(failure.error)}`;
    logger.debug(`${who}: the timed-out attempt ${how}`);
  });
  if ((await waitFor(call, graceMs, { attempt, scope })) === 'late') {
    logger.warn(
      `${who}: still running ${graceMs} ms after its timeout of ${limitMs} ms; other messages of its key are now processed`,
    );
  }
  return libraryFailure(error.name, error.message, 'timeout', { code: error.code, error });
}

/**
 * Waits for the end of a call. `late`: the limit has passed first. `abandoned`: a shutdown has requeued the
 * message, so nothing depends on the limit any more, and its timer would keep the process alive.
 */
function waitFor(
  call: Promise<unknown>,
  limitMs: number,
  { attempt, scope }: { readonly attempt: Attempt; readonly scope: SubscriptionScope },
): Promise<'ended' | 'late' | 'abandoned'> {
  return new Promise((resolve) => {
    let removeListener = (): void => {};
    const end = (how: 'ended' | 'late' | 'abandoned'): void => {
      cancel();
      removeListener();
      resolve(how);
    };
    const cancel = scope.clock.setTimer(limitMs, () => end('late'));
    removeListener = scope.retryTimers.onAbandoned(attempt.delivery, () => end('abandoned'));
    void call.then(() => end('ended'));
  });
}
