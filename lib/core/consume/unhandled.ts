import {
  copyHeaders,
  headerNames,
  headerSetter,
  readCount,
  timeText,
  writeOrigin,
} from '../message/headers.js';
import { quoted } from '../message/text.js';
import type { Redelivery } from '../port/delivery.js';
import type { InboundMessage } from '../port/message.js';
import type { StorkLogger } from '../runtime/reporting.js';
import type { DeliveryContext } from './delivery-context.js';

/**
 * A message without a handler returns through the broker, so that another process of the service may take
 * it, e.g. a newer version during a rolling deploy. It uses no attempt of the handler that takes it, and does
 * not count against `deliveryLimit`. Later messages of its key overtake it.
 *
 * @publicApi
 */
export interface UnhandledRedelivery {
  /** How long the message waits before each return, in milliseconds, from 1 ms to 28 days. */
  readonly redeliverMs: number;
  /**
   * How often the message returns, 1 to 1 000 000, before it is dead-lettered with the reason `no-handler`.
   * A request returns only until half a second before the time limit of its caller, a message with an expiry
   * only within that.
   */
  readonly times: number;
}

/** How often the message has returned because it had no handler. */
export function unhandledCount({ headers }: Pick<InboundMessage, 'headers'>): number {
  return readCount(headers, headerNames.unhandledCount) ?? 0;
}

/** If the return finds no handler either, the caller must still get its error, not a time-out. */
const replyReserveMs = 500;

/** Whether the message returns once more: not beyond the time limit of its caller or its expiry. */
export function mayReturn(
  { delivery: { message }, metadata: { deadline }, scope: { clock } }: DeliveryContext,
  { redeliverMs, times }: UnhandledRedelivery,
): boolean {
  const count = unhandledCount(message);
  if (count >= times) return false;
  // The broker does not report the message's age; it is at least `count × redeliverMs`.
  if (message.expiresInMs !== undefined && (count + 1) * redeliverMs >= message.expiresInMs) return false;
  return deadline === undefined || clock.now() + redeliverMs + replyReserveMs < deadline;
}

/**
 * The message as it returns to its source. Its attempt and its handler stay: a handler that another process
 * still has continues with the attempt that it is due.
 */
export function toUnhandledRedelivery(
  { delivery: { message }, scope: { clock } }: DeliveryContext,
  { redeliverMs: delayMs }: UnhandledRedelivery,
): Redelivery {
  const headers = copyHeaders(message.headers);
  const set = headerSetter(headers);
  writeOrigin(headers, message);
  set(headerNames.unhandledCount, String(unhandledCount(message) + 1));
  set(headerNames.dueAt, timeText(clock.now() + delayMs));
  return { to: 'redelivery', delayMs, headers, isDeferral: true, isForOtherConsumer: true };
}

/** Senders can use any number of different patterns, and each of them costs memory and a log line. */
const maxWarnings = 1_000;

/** Warns of the first message of each pattern that returns. */
export class UnhandledLog {
  readonly #subscription: string;
  readonly #logger: StorkLogger;
  readonly #warned = new Set<string>();

  constructor(subscription: string, logger: StorkLogger) {
    this.#subscription = subscription;
    this.#logger = logger;
  }

  /** @param handlerId the handler that the message names, which is missing; undefined if it names none */
  warnOnce(
    handlerId: string | undefined,
    pattern: string,
    { redeliverMs, times }: UnhandledRedelivery,
  ): void {
    const named = handlerId === undefined ? '' : ` with the id ${quoted(handlerId)}`;
    const what = `no handler${named} for pattern ${quoted(pattern)}`;
    if (this.#warned.has(what) || this.#warned.size >= maxWarnings) return;
    this.#warned.add(what);
    this.#logger.warn(
      `${this.#subscription}: ${what}: such messages return through the broker every ${redeliverMs} ms, up to ${times} ` +
        'times, then they are dead-lettered. This is expected while a newer version is deployed; otherwise add the ' +
        "handler, or set onUnhandled to 'dead-letter' or 'skip'",
    );
  }
}
