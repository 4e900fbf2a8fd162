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
import type { PublishCancellation } from './publish-cancellation.js';

/**
 * The port between core and a broker. Each broker has one implementation; core calls only this interface
 * and reads differences between brokers from `capabilities`. These comments are the contract, and the suite
 * in `test/contract` checks every driver against it.
 */
export interface Driver {
  readonly capabilities: Capabilities;
  /**
   * The queue or consumer group that this driver consumes as. Every process of the service has the same
   * one. Undefined when the transport only publishes.
   */
  readonly consumerName: string | undefined;
  /**
   * Largest expected difference between the clocks of two clients, in milliseconds. A request is still
   * processed for this long after its deadline header. @defaultValue 0
   */
  readonly clockSkewMs?: number;
  /**
   * Only if messages are requeued in process: how often, before core dead-letters them. Otherwise the broker
   * counts. @defaultValue no limit
   */
  readonly deliveryLimit?: number;
  /**
   * Changed only by the driver: `idle` → `connecting` → `ready` → (`blocked` | `backoff` → `ready`)… →
   * `closed`.
   */
  readonly state: ConnectionStateCell;

  /**
   * Returns what the broker cannot express, e.g. a pattern that is not a legal topic name. Runs before
   * `connect`, without I/O.
   */
  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[];

  /**
   * Resolves when the driver can publish. Rejects when `signal` aborts first, with its reason, and when
   * retrying cannot help, e.g. on wrong credentials. After it has resolved, the driver reconnects by itself
   * after every connection loss and restores its topology and its subscriptions.
   */
  connect(signal: AbortSignal): Promise<void>;

  /**
   * Creates what the subscription needs: dead letter destinations, retry destinations, sources and
   * bindings. A source must not exist before its dead letter destination, or a failed message has nowhere
   * to go. Idempotent. Rejects, and names the difference, when the broker has the same object with other
   * properties.
   */
  declare(spec: SubscriptionSpec): Promise<void>;

  /**
   * Starts consuming; called after `declare`, and again after another `declare` if it has rejected. The
   * driver passes each delivery to `sink` exactly once per source session. The broker redelivers what is
   * unsettled when the session ends, to this consumer or to another, in a new session and with `redelivered`
   * set if the broker reports it.
   */
  subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription>;

  /**
   * Resolves when the broker has confirmed the message and routed it to at least one queue or topic.
   * Rejects with `NoRouteError`, `PublishRejectedError`, `PublishUnconfirmedError`, `ConnectionLostError`
   * or `ClientClosedError`. A request (`replyTo` is set) is published so that its reply reaches the reply
   * inbox. The driver must not read the body after the promise has settled. It waits for the broker without a
   * time limit: core cancels the publish. A driver that waits before it sends sets `cancellation.withdraw`,
   * and sends nothing once it is cancelled; what the promise then does is ignored.
   */
  publish(message: OutboundMessage, cancellation: PublishCancellation): Promise<void>;

  /**
   * Rounds a redelivery delay up to one that the broker can provide; never down. Returns undefined if the
   * broker cannot delay the message at all: core then waits in process and keeps the message unsettled.
   * Called after `declare`.
   */
  roundDelay(delayMs: number): number | undefined;

  /**
   * Name of the queue, exchange or topic that a message is published to. Throws if `publish` would.
   */
  destinationOf?(message: Pick<OutboundMessage, 'pattern' | 'to'>): string;

  /**
   * Describes the destination of a request that was confirmed but not answered, for the timeout's error
   * text. Undefined when nothing useful is known.
   */
  describeTarget?(message: Pick<OutboundMessage, 'pattern' | 'to'>): string | undefined;

  /**
   * Opens the inbox for replies. Called before the first request, and again only if it has rejected. The
   * inbox survives reconnects. The driver calls `listener.onLost` when replies to pending requests can no
   * longer arrive; the callers' requests fail with that error.
   */
  openReplies(listener: ReplyListener): Promise<ReplyInbox>;

  /**
   * Reads the reply address of a request. Must not throw or reject, whatever the headers contain. Returns a
   * promise only if the broker has to be queried.
   */
  parseReplyAddress(message: InboundMessage): ReplyTarget | Promise<ReplyTarget>;

  /**
   * Publishes one reply. Resolves with `undeliverable` if the reply address has no listener or can never
   * receive the reply, and with `too-large` if a smaller reply would fit: a retry would not help, so the
   * request counts as handled. Rejects only if a retry can help; core then sends it again. Must settle
   * eventually, because the handler occupies its concurrency slot until then.
   */
  reply(to: ReplyAddress, reply: OutboundReply): Promise<ReplyOutcome>;

  /** Name of the dead letter queue or topic of a source. */
  deadLetterName(source: string): string;

  /**
   * Opens the dead letters of a source. Needs `connect`, but not `declare`. Rejects with `StorkConfigError`
   * when neither `location` nor the transport's options name the source, and when the queue or topic does
   * not exist.
   */
  deadLetters(location: DeadLetterLocation): Promise<DeadLetterStore>;

  /**
   * The broker's own client, for what this port does not offer; undefined while there is none. Part of the
   * public API of each driver.
   */
  unwrap(): unknown;

  /**
   * Shuts down within `limitMs`: flushes confirms, acknowledgements and offsets, returns unsettled messages
   * to the broker and closes the connections. Idempotent: further calls return the first promise. Never
   * rejects. Afterwards `publish` rejects with `ClientClosedError`.
   */
  close(limitMs: number): Promise<void>;
}

/** Message options that only some brokers support. A driver lists those that it supports. */
export type OptionalMessageOption =
  'delayMs' | 'expiresInMs' | 'priority' | 'partition' | 'persistent' | 'appId';

export interface Capabilities {
  readonly messageOptions: ReadonlySet<OptionalMessageOption>;
  /** Kinds of destination that a message may name in `to`. */
  readonly destinations: ReadonlySet<'queue' | 'exchange' | 'topic'>;
  /**
   * True if `Subscription.pause` leaves delivered messages with the consumer. False if it returns
   * them to the broker; the prefetch, not a pause, then limits the messages in flight.
   */
  readonly pausesWithoutRedelivery: boolean;
  /**
   * How a message is processed again without a delay. `broker`: core calls `requeue` and the broker
   * delivers the message again. `in-process`: the source is a log, which cannot redeliver a single message;
   * core processes the message again before the next one of its key, and calls `requeue` only when it stops
   * processing the message.
   */
  readonly requeue: 'broker' | 'in-process';
  /**
   * True if no other service reads the source. A message without a handler would then be lost, so core
   * dead-letters it by default.
   */
  readonly exclusiveSource: boolean;
}

/** Which messages are processed one after another: those of one key, those of one partition, or none. */
export type DeliveryOrder = 'key' | 'partition' | 'none';

/**
 * A pattern that handlers listen to, with the delivery settings that they require. Patterns that share one
 * source must have the same settings.
 */
export interface SubscribedPattern extends Pattern {
  readonly order: DeliveryOrder;
  readonly delivery: DeliveryMode;
  /** Ids of the handlers that listen to the pattern, for error texts and logs. */
  readonly handlerNames: readonly string[];
}

/**
 * What a transport consumes. The driver derives the source from its own options: one queue, or the topics
 * of one consumer group.
 */
export interface SubscriptionSpec {
  /** The transport's name, unique in the process. Appears in the `stork-consumer` header and in logs. */
  readonly id: string;
  /** Patterns of all handlers, without duplicates. Never empty. */
  readonly patterns: readonly SubscribedPattern[];
  /**
   * Handlers that may run at the same time. A driver that prefetches derives its prefetch count from it.
   */
  readonly concurrency: number;
  /** Delays of redeliveries through the broker, in milliseconds, ascending, without duplicates. */
  readonly redeliverDelaysMs: readonly number[];
  /**
   * Delay of redeliveries of messages without a handler, in milliseconds. `declare` provides exactly this
   * delay, which other redeliveries do not use. Undefined: there are no such redeliveries.
   */
  readonly unhandledDelayMs?: number | undefined;
  /** The handler that can keep a message unsettled for the longest time. */
  readonly maxHoldTime: MaxHoldTime;
  /**
   * Dead letter queues or topics that handlers name instead of the default of the source, without
   * duplicates. `declare` creates them like the default.
   */
  readonly deadLetterTargets: readonly string[];
}

/** How long one handler can keep a message unsettled, its in-process retries included. */
export interface MaxHoldTime {
  readonly handler: string;
  /** Sum of the waits between its in-process attempts. */
  readonly waitMs: number;
  /** Number of its in-process attempts. */
  readonly attempts: number;
  /** Time limit of one attempt; 0 if it has none. */
  readonly timeoutMs: number;
}

/** Core's side of a subscription. */
export interface DeliverySink {
  /**
   * Takes responsibility for the delivery. Never throws. May call `Subscription.pause` before it returns.
   */
  deliver(delivery: Delivery): void;
  /**
   * Starts no further handler, and resolves when none is running. Waiting deliveries stay queued. A driver
   * calls it before it loses its source, e.g. before a rebalance.
   */
  quiesce(): Promise<void>;
  /** Ends `quiesce`: starts the waiting deliveries whose source session is still active. */
  resume(): void;
}

export interface Subscription {
  /**
   * Stops deliveries until `resume`; those already on their way may still arrive. Settling continues.
   * Idempotent.
   */
  pause(): void;
  resume(): void;
  /**
   * Stops deliveries for good; `pause` and `resume` have no effect afterwards. Delivered messages can still
   * be settled. Idempotent.
   */
  stop(): Promise<void>;
  /**
   * Called after `stop`. Flushes settlements and leaves the source, so that other consumers get what is
   * unsettled. Nothing waits for it longer than `limitMs`. Idempotent.
   */
  close(limitMs: number): Promise<void>;
}

export interface ReplyListener {
  onReply(reply: InboundReply): void;
  /** Replies to the pending requests can no longer arrive. */
  onLost(error: Error): void;
}

export interface ReplyInbox {
  /** The value for `OutboundMessage.replyTo` of each request. */
  readonly address: ReplyAddress;
}
