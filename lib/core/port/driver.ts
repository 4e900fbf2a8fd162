import type { ConnectionStateCell } from './connection-state.js';
import type { DeadLetterStore, DeadLetterLocation } from './dead-letter-store.js';
import type { Delivery, DeliveryMode } from './delivery.js';
import type { ConfigProblem } from '../runtime/errors.js';
import type {
  InboundMessage,
  OutboundMessage,
  ReplyAddress,
  InboundReply,
  OutboundReply,
  ReplyOutcome,
  ReplyTarget,
} from './message.js';
import type { Pattern } from '../message/pattern.js';

/**
 * The port that a broker's driver implements. Its comments are the contract; `test/contract` is its proof. Core never asks which
 * driver it talks to, only what the driver can do.
 */
export interface Driver {
  readonly capabilities: Capabilities;
  /** Under which name it consumes, the same in every process that does: its queue or its group. Undefined where it only sends. */
  readonly consumerName: string | undefined;
  /** How far the clocks of its clients may be apart: so much later than it says a request still runs. @defaultValue 0 */
  readonly clockSkewMs?: number;
  /** Moved by the driver alone: `idle` → `connecting` → `ready` → (`blocked` | `backoff` → `ready`)… → `closed`. */
  readonly state: ConnectionStateCell;

  /** What the broker could never carry, e.g. a pattern that is no legal topic name. No I/O; called before `connect`. */
  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[];

  /**
   * Resolves when messages can be published. Rejects with the reason when `signal` aborts first or when waiting cannot help (wrong
   * password). Once it has resolved, the driver comes back by itself after every loss, with its topology and its subscriptions.
   */
  connect(signal: AbortSignal): Promise<void>;

  /**
   * Makes what the subscription needs to exist: source, companions for dead letters and delays, bindings, in that order of safety (a source never
   * exists without its dead letter companion). Idempotent. Rejects with a named difference where the broker has something else.
   */
  declare(spec: SubscriptionSpec): Promise<void>;

  /**
   * Begins to hand deliveries to `sink`, after `declare`. Each delivery is handed in exactly once per epoch; what is not settled
   * when its epoch ends comes again, here or at another consumer, in a new epoch and with `redelivered` set where the broker knows.
   */
  subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription>;

  /**
   * Resolves when the broker has confirmed the message and something was bound where it went; rejects with `NoRouteError`,
   * `PublishRejectedError`, `PublishUnconfirmedError`, `ConnectionLostError` or `ClientClosedError`. A request (`replyTo` set) goes out
   * so that its answer reaches the inbox. The body must not be read after the promise has settled.
   */
  publish(message: OutboundMessage): Promise<void>;

  /**
   * After how long a message comes back that shall come back after `delayMs`: never earlier. Undefined where it cannot come through the
   * broker; core then waits with the message in hand. Called after `declare`.
   */
  roundDelay(delayMs: number): number | undefined;

  /** What is known of where a request went that was confirmed and not answered, for people. */
  describeTarget?(message: OutboundMessage): string | undefined;

  /**
   * Opens the place where answers arrive, before the first request; called again only after it has rejected. The inbox survives reconnects. `lost` is
   * called where answers of pending requests can no longer arrive, with the reason that their callers get.
   */
  openReplies(listener: ReplyListener): Promise<ReplyInbox>;

  /** Total: whatever the headers hold, an answer and no exception. A promise where the broker has to be asked first. */
  parseReplyAddress(message: InboundMessage): ReplyTarget | Promise<ReplyTarget>;

  /**
   * Sends one answer. `undeliverable`: nobody listens at the address, or it can never be sent; `too-large`: a smaller one could be.
   * Trying again would not help and the request counts as done. Rejects only where trying again can help; the request is then given back. Settles in the end:
   * a handler's slot waits for it.
   */
  reply(to: ReplyAddress, reply: OutboundReply): Promise<ReplyOutcome>;

  /**
   * Where letters of a source lie. Needs `connect`, not `declare`. Rejects with `StorkConfigError` where `place` leaves out what the
   * transport does not know either, and where there is no such queue or topic.
   */
  deadLetters(place: DeadLetterLocation): Promise<DeadLetterStore>;

  /**
   * Ends everything within `limitMs`: flushes confirms and offsets, gives back what is unsettled, closes the connections. Idempotent;
   * calls after the first return the same promise. Afterwards `publish` rejects with `ClientClosedError`. Never rejects.
   */
  close(limitMs: number): Promise<void>;
}

/** Message options that not every broker can honour; a driver lists those that it can. */
export type OptionalMessageOption =
  'delayMs' | 'expiresInMs' | 'priority' | 'partition' | 'persistent' | 'appId';

export interface Capabilities {
  readonly messageOptions: ReadonlySet<OptionalMessageOption>;
  /** Kinds of `to` that a message may name. */
  readonly destinations: ReadonlySet<'queue' | 'exchange' | 'topic'>;
  /** True where a pause gives nothing back. False on RabbitMQ: there the prefetch bounds what is in flight, not a pause. */
  readonly pausesWithoutRedelivery: boolean;
  /**
   * `broker`: what is requeued is delivered anew. `memory`: the source cannot take it back; core runs it again, in its lane, and calls
   * `requeue` only for what will not run here any more.
   */
  readonly requeue: 'broker' | 'in-process';
  /** True where nobody else reads the source, so that a message without handler is lost unless we keep it. */
  readonly exclusiveSource: boolean;
}

/** What runs one after another: messages of a key, all of a partition, or nothing. */
export type DeliveryOrder = 'key' | 'partition' | 'none';

/** A pattern of the handlers and how they want its messages. Patterns whose messages come from one source must want the same. */
export interface SubscribedPattern extends Pattern {
  readonly order: DeliveryOrder;
  readonly delivery: DeliveryMode;
  /** The handlers that listen to it, for messages to people. */
  readonly handlerNames: readonly string[];
}

/** One source that is consumed: a queue, or the topics of a group. Which, the driver knows from its own options. */
export interface SubscriptionSpec {
  /** Unique in the process; appears in `stork-consumer` and in logs. */
  readonly id: string;
  /** Patterns of the handlers, each once. Never empty. */
  readonly patterns: readonly SubscribedPattern[];
  /** Handlers that run at once. A driver that prefetches takes its window from it. */
  readonly concurrency: number;
  /** Delays after which messages shall come back, each once, rising. Empty where the driver cannot redeliver. */
  readonly redeliverDelaysMs: readonly number[];
  /** The handler that can keep a message in place for the longest time: with its waits, and with its runs where they are bounded. */
  readonly maxHoldTime: MaxHoldTime;
  /** Where handlers keep their letters instead of the source's companion, each once. They need to exist as that does. */
  readonly deadLetterTargets: readonly string[];
}

export interface MaxHoldTime {
  readonly handler: string;
  /** Waits between its runs, all together. */
  readonly waitMs: number;
  /** Runs in place. */
  readonly attempts: number;
  /** What one run may take; 0: nobody knows. */
  readonly timeoutMs: number;
}

/** Core's side of a subscription. */
export interface DeliverySink {
  /** Takes the delivery over; never throws. It may call `Subscription.pause()` before it returns. */
  deliver(delivery: Delivery): void;
  /** Starts no further handler; resolves when none runs. What waits stays. For a driver about to lose its source. */
  quiesce(): Promise<void>;
  /** Ends `halt`: starts what waits, but for deliveries whose epoch has ended. */
  resume(): void;
}

export interface Subscription {
  /** No more deliveries until `resume`, but for those on their way. Settling goes on. Idempotent. */
  pause(): void;
  resume(): void;
  /** No more deliveries ever; `pause` and `resume` do nothing any more. What was delivered can still be settled. Idempotent. */
  stop(): Promise<void>;
  /** After `stop`: flushes what was settled and gives the source up to others, unsettled messages included. Idempotent. */
  close(): Promise<void>;
}

export interface ReplyListener {
  onReply(reply: InboundReply): void;
  onLost(error: Error): void;
}

export interface ReplyInbox {
  /** What `OutboundMessage.replyTo` of a request must hold. */
  readonly address: ReplyAddress;
}
