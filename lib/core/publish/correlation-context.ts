import { AsyncLocalStorage } from 'node:async_hooks';
import { readText, type MessageHeaders } from '../message/headers.js';

/** Identifies the message that is being handled, for the messages that its handler sends. */
export interface CorrelationContext {
  /** Shared by all messages that follow from one first message, across services. */
  readonly correlationId: string | undefined;
  /**
   * Id of the message that is being handled, which becomes the causation id of the messages sent; undefined
   * if it has none.
   */
  readonly messageId: string | undefined;
  /** Set while an attempt of a message handler runs: the ids of what it sends are derived from it. */
  handlerId?: string | undefined;
  /** How often the attempt has sent each content. */
  sent?: Map<string, number> | undefined;
}

/**
 * Whether the handlers of an application run in the correlation context of their message. Once an
 * `AsyncLocalStorage` has run, Node before 24 tracks every promise of the process, which adds a third to the
 * cost of a message: an application that only receives does not need it.
 */
export interface CorrelationTracking {
  isEnabled: boolean;
}

const storage = new AsyncLocalStorage<CorrelationContext>();

/**
 * Calls `work` in the correlation context. Messages that `work` sends, also after its awaits and in the
 * streams that it subscribes to, then carry the context's ids.
 */
export function runInCorrelation<Args extends readonly unknown[], Result>(
  context: CorrelationContext,
  work: (...args: Args) => Result,
  ...args: Args
): Result {
  return storage.run(context, work, ...args);
}

export function currentCorrelation(): CorrelationContext | undefined {
  return storage.getStore();
}

/**
 * The correlation id in an application's header; undefined if it is absent or invalid. Any sender can set the
 * header, so only 1 to 255 printable ASCII characters without spaces are accepted.
 *
 * @param name in lower case; headers match whatever their case
 */
export function correlationIdIn(headers: MessageHeaders, name: string): string | undefined {
  const spelled = Object.keys(headers).find((header) => header.toLowerCase() === name);
  const id = spelled === undefined ? undefined : readText(headers, spelled, 255);
  return id !== undefined && /^[\x21-\x7e]+$/.test(id) ? id : undefined;
}
