import { AsyncLocalStorage } from 'node:async_hooks';

/** Identifies the message that is being handled, for the messages that its handler sends. */
export interface CorrelationContext {
  /** Shared by all messages that follow from one first message, across services. */
  readonly correlationId: string | undefined;
  /**
   * Id of the message that is being handled, which becomes the causation id of the messages sent; undefined
   * if it has none.
   */
  readonly messageId: string | undefined;
}

const storage = new AsyncLocalStorage<CorrelationContext>();
/**
 * Once an `AsyncLocalStorage` has run, Node before 24 tracks every promise of the process, which adds a
 * third to the cost of a message. An application that only receives does not need the context.
 */
let isTracking = false;

/**
 * Called when the application has a client. From then on, handlers run in the correlation context of their
 * message.
 */
export function enableCorrelationTracking(): void {
  isTracking = true;
}

/**
 * Calls `work` in the correlation context if tracking is enabled. Messages that `work` sends, also after
 * its awaits and in the streams that it subscribes to, then carry the context's ids.
 */
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
