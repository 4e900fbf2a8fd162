import type { DisclosurePolicy } from '../dead-letter/dead-letter-options.js';
import type { StoreHealthLog } from '../idempotency/store-health-log.js';
import type { DeliveryMetadata } from '../message/delivery-metadata.js';
import type { Delivery } from '../port/delivery.js';
import type { Capabilities, Driver } from '../port/driver.js';
import type { RetryTimers } from '../retry/retry-timers.js';
import type { StorkClock } from '../runtime/clock.js';
import type { Counters, StorkLogger } from '../runtime/reporting.js';
import type { UserHooks } from '../runtime/user-hooks.js';
import type { ReplyWriter } from './reply-writer.js';

/** What the processing of all deliveries of one subscription shares. */
export interface SubscriptionScope {
  readonly subscription: string;
  readonly driver: Pick<Driver, 'parseReplyAddress' | 'reply' | 'roundDelay' | 'deadLetterName'>;
  readonly capabilities: Pick<Capabilities, 'requeue'>;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
  readonly retryTimers: RetryTimers;
  readonly hooks: UserHooks;
  /** Idempotency keys are scoped to the consumer and to the handler. */
  readonly consumerName: string;
  readonly storeHealth: StoreHealthLog;
  /** What a handler's own dead letter destination is on this transport. */
  readonly deadLetterKind: 'queue' | 'topic';
  /** Policy for messages that reach no handler. They are always dead-lettered. */
  readonly deadLetter: DisclosurePolicy;
  /** Whether callers get name and message of errors that were not meant for them. */
  readonly exposeErrors: boolean;
  /** Returns a number from 0 (inclusive) to 1 (exclusive). */
  readonly random: () => number;
  /**
   * Called with a reason when republishing fails, and with undefined when it has recovered. The dispatcher
   * pauses a queue meanwhile, but not a log.
   */
  onRepublishBlocked(why: string | undefined): void;
}

/** One of the `concurrency` slots, as the delivery that occupies it uses it. */
export interface ProcessingSlot {
  /**
   * Waits without occupying a concurrency slot; later messages of the key wait too. Resolves with true when
   * the delay has passed and the delivery has a slot again, with false when a shutdown or an abort ended
   * the wait.
   *
   * @param until must not reject; the wait lasts until it has resolved too
   */
  wait(delayMs: number, until?: Promise<void>): Promise<boolean>;
  /** The handlers of one message share its slot. Called if there are several. */
  handlersStarted(count: number): void;
  handlerEnded(): void;
  /** Frees the slot and the key: the message is unsettled, and nothing runs for it. */
  leave(): void;
}

/** A delivery while it is processed. All its attempts share it. */
export interface DeliveryContext {
  readonly delivery: Delivery;
  readonly slot: ProcessingSlot;
  readonly metadata: DeliveryMetadata;
  readonly scope: SubscriptionScope;
  /** Undefined on events, and once the reply has been sent. */
  replyWriter: ReplyWriter | undefined;
  /** Handlers that have not called `ack`. */
  unacknowledged: number;
}
