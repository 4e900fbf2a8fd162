import { AsyncLocalStorage } from 'node:async_hooks';

/** What the messages that are sent on the way belong to. */
export interface CorrelationContext {
  /** The same for all of it, over services. */
  readonly correlationId: string | undefined;
  /** Id of the message whose handling sends; undefined where it did not begin with a message. */
  readonly messageId: string | undefined;
}

const storage = new AsyncLocalStorage<CorrelationContext>();
/**
 * Once a store was opened, Node before 24 makes every promise of the process dearer, a third of what a message costs: who only
 * receives need not pay for it.
 */
let isTracking = false;

/** Called when it is known that something can be sent: from then on what is handled belongs to its conversation. */
export function enableCorrelationTracking(): void {
  isTracking = true;
}

/** Runs `work` so that, where conversations are followed, what it sends, also after its awaits and in the streams that it subscribes to, belongs to the conversation. */
export function runInCorrelation<Args extends readonly unknown[], Result>(
  correlation: CorrelationContext,
  work: (...args: Args) => Result,
  ...args: Args
): Result {
  return isTracking ? storage.run(correlation, work, ...args) : work(...args);
}

export function currentCorrelation(): CorrelationContext | undefined {
  return storage.getStore();
}
