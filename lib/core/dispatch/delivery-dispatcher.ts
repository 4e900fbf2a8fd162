import type { StorkClock } from '../runtime/clock.js';
import { settlesWithin, withResolvers } from '../runtime/with-timeout.js';
import type { Delivery, SourceSession } from '../port/delivery.js';
import type { DeliverySink, Subscription } from '../port/driver.js';
import type { RetryTimers } from '../retry/retry-timers.js';
import type { ProcessingSlot } from '../consume/delivery-context.js';
import { DeliverySlot, InFlight, inFlightLimits, StartedDeliveries, type SlotHost } from './in-flight.js';
import { KeyedQueue, type ConcurrencyLimit, type QueueEntry } from './keyed-queue.js';

/** Why the source is paused. It resumes when no reason remains. */
type PauseReason = 'in-flight' | 'republish';

export interface DeliveryDispatcherFields {
  readonly concurrency: number;
  /** Messages that may wait between attempts; while that many do, no further one starts. */
  readonly maxWaiting: number;
  /** See `Capabilities`. If false, the driver's prefetch limits the messages in flight. */
  readonly pausesWithoutRedelivery: boolean;
  /**
   * False on a log: there an unsettled message already blocks its key, and one topic whose dead letters
   * cannot be written must not stop the other topics.
   */
  readonly pausesWhileRepublishBlocked: boolean;
  readonly clock: StorkClock;
  /**
   * Concurrency limits of the handlers that may process the delivery. Undefined if no handler has a limit.
   */
  readonly limitsOf?: ((delivery: Delivery) => readonly ConcurrencyLimit[]) | undefined;
  readonly retryTimers: RetryTimers;
  /** Resolves when the delivery is settled. Must not reject. */
  process(delivery: Delivery, slot: ProcessingSlot): Promise<void>;
  /** Requeues a delivery that is not processed. */
  returnToSource(delivery: Delivery): void;
}

/**
 * Connects a driver's subscription to the pipeline: limits the messages in flight, preserves the order of
 * each key, and drains at shutdown.
 */
export class DeliveryDispatcher implements DeliverySink {
  readonly #fields: DeliveryDispatcherFields;
  readonly #inFlight: InFlight;
  readonly #queue: KeyedQueue<Delivery>;
  readonly #slotHost: SlotHost;
  readonly #pauseReasons = new Set<PauseReason>();
  readonly #sessions = new WeakSet<SourceSession>();
  readonly #started = new StartedDeliveries();
  #onNoneStarted: (() => void) | undefined;
  #deferred = 0;
  readonly #limitReached = withResolvers<void>();
  #subscription: Subscription | undefined;
  #stopped = false;
  #draining: Promise<void> | undefined;
  #blockedRepublishes = 0;

  constructor(fields: DeliveryDispatcherFields) {
    this.#fields = fields;
    this.#inFlight = new InFlight(
      inFlightLimits(fields.concurrency),
      () => fields.pausesWithoutRedelivery && this.#pauseFor('in-flight'),
      () => this.#resumeFor('in-flight'),
    );
    this.#queue = new KeyedQueue(
      fields.concurrency,
      (delivery, entry) => this.#start(delivery, entry),
      fields.maxWaiting,
    );
    this.#slotHost = {
      queue: this.#queue,
      timers: fields.retryTimers,
      onSuspended: (change) => this.#inFlight.suspend(change),
      onDeferred: (change) => void (this.#deferred += change),
    };
  }

  /** Messages delivered and not yet settled. */
  get inFlight(): number {
    return this.#inFlight.messages;
  }

  /** Deliveries whose handlers are running. */
  get running(): number {
    return this.#queue.running;
  }

  /** Deliveries whose settlement is deferred (`manual`). */
  get deferred(): number {
    return this.#deferred;
  }

  /** Called when the driver has subscribed. Deliveries may have arrived, or a drain have begun, before. */
  attach(subscription: Subscription): void {
    this.#subscription = subscription;
    if (this.#stopped) void this.#stopSource();
    else if (this.#pauseReasons.size > 0) subscription.pause();
  }

  deliver(delivery: Delivery): void {
    // Returning the waiting deliveries of a session that ends may resume its source, which then delivers
    // more of it: they would be handled here and, with those before them, by the next owner.
    if (!delivery.session.isActive) return;
    this.#inFlight.add(delivery.message.body?.length ?? 0);
    // After a drain has begun, the queue starts no item: the delivery is requeued with the other waiting
    // ones.
    this.#enqueue(delivery);
    this.#watchSession(delivery.session);
  }

  #enqueue(delivery: Delivery): void {
    this.#queue.push(delivery.orderingKey, delivery, this.#fields.limitsOf?.(delivery));
  }

  quiesce(): Promise<void> {
    return this.#queue.quiesce();
  }

  resume(): void {
    if (!this.#stopped) this.#queue.resume();
  }

  /**
   * Called when republishing a message fails, and again when it has recovered; calls for several messages
   * may overlap. Returns true for the first failure and for the last recovery.
   */
  onRepublishBlocked(isBlocked: boolean): boolean {
    this.#blockedRepublishes += isBlocked ? 1 : -1;
    if (isBlocked && this.#fields.pausesWhileRepublishBlocked) this.#pauseFor('republish');
    else if (this.#blockedRepublishes === 0) this.#resumeFor('republish');
    return this.#blockedRepublishes === (isBlocked ? 1 : 0);
  }

  /**
   * Stops consuming, requeues deliveries that have not started, and waits for those that have, deferred
   * settlements included. After `limitMs` it aborts and requeues the rest. A second call can only shorten
   * the wait of the first.
   */
  async drain(limitMs: number, onLimitReached: () => void): Promise<void> {
    this.#stopped = true;
    this.#draining ??= this.#drain();
    if (await settlesWithin(this.#fields.clock, this.#draining, limitMs)) return;
    if (this.running + this.deferred > 0) onLimitReached();
    this.#fields.retryTimers.abandon();
    this.#started.forEach((delivery) => {
      delivery.abort();
      this.#fields.returnToSource(delivery);
    });
    // `stop` of the subscription may hang, so the waiting deliveries are requeued here too.
    this.#returnWaiting(() => true);
    this.#limitReached.resolve();
    await this.#draining;
  }

  async #drain(): Promise<void> {
    void this.#queue.quiesce();
    // First the source: a message whose wait is interrupted is requeued, and must not be delivered to this
    // consumer again.
    const stopped = this.#stopSource();
    this.#fields.retryTimers.close();
    this.#queue.interrupt(() => true);
    await Promise.race([stopped, this.#limitReached.promise]);
    await Promise.race([this.#noneStarted(), this.#limitReached.promise]);
  }

  #noneStarted(): Promise<void> {
    if (this.#started.isEmpty) return Promise.resolve();
    return new Promise((resolve) => (this.#onNoneStarted = resolve));
  }

  async #stopSource(): Promise<void> {
    // The waiting deliveries must be requeued even if `stop` fails.
    await this.#subscription?.stop().catch(() => {});
    this.#returnWaiting(() => true);
  }

  #start(delivery: Delivery, entry: QueueEntry<Delivery>): void {
    const slot = new DeliverySlot(entry, this.#slotHost);
    this.#started.add(slot);
    const ended = (): void => this.#end(slot);
    // The slot must be freed even if `process` breaks its contract and rejects.
    void this.#fields.process(delivery, slot).then(ended, ended);
  }

  #end(slot: DeliverySlot): void {
    slot.end();
    this.#started.remove(slot);
    this.#release(slot.delivery);
    this.#queue.end(slot.entry);
    if (this.#started.isEmpty) this.#onNoneStarted?.();
  }

  #release(delivery: Delivery): void {
    this.#inFlight.remove(delivery.message.body?.length ?? 0);
  }

  /**
   * When a session ends, the broker redelivers its messages: waiting deliveries are dropped, running ones
   * aborted.
   */
  #watchSession(session: SourceSession): void {
    if (this.#sessions.has(session)) return;
    this.#sessions.add(session);
    session.onEnd(() => {
      this.#returnWaiting((delivery) => delivery.session === session);
      // Early-acked deliveries continue: they exist only in this process, and no other consumer receives
      // them.
      const isLost = (delivery: Delivery): boolean => delivery.session === session && !delivery.isEarlyAcked;
      this.#started.forEach((delivery) => {
        if (isLost(delivery)) delivery.abort();
      });
      this.#queue.interrupt(isLost);
    });
  }

  /**
   * The other deliveries keep the order of their key. They are queued again before any place is released:
   * a release may resume the source, which would put newer messages of a key before them.
   */
  #returnWaiting(isReturned: (delivery: Delivery) => boolean): void {
    const returned: Delivery[] = [];
    for (const delivery of this.#queue.takeWaiting()) {
      if (isReturned(delivery)) returned.push(delivery);
      else this.#enqueue(delivery);
    }
    for (const delivery of returned) {
      this.#release(delivery);
      this.#fields.returnToSource(delivery);
    }
  }

  #pauseFor(reason: PauseReason): void {
    const wasFlowing = this.#pauseReasons.size === 0;
    this.#pauseReasons.add(reason);
    if (!wasFlowing || this.#stopped) return;
    this.#subscription?.pause();
    // Such a source delivers a new prefetch window when it resumes; without returning the old one, windows
    // would add up.
    if (!this.#fields.pausesWithoutRedelivery) this.#returnWaiting(() => true);
  }

  #resumeFor(reason: PauseReason): void {
    if (!this.#pauseReasons.delete(reason) || this.#pauseReasons.size > 0 || this.#stopped) return;
    this.#subscription?.resume();
  }
}
