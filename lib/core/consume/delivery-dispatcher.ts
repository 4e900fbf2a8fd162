import type { StorkClock } from '../runtime/clock.js';
import { settlesWithin, withResolvers } from '../runtime/with-timeout.js';
import type { Delivery, SourceSession } from '../port/delivery.js';
import type { DeliverySink, Subscription } from '../port/driver.js';
import { InFlight, inFlightLimits } from './in-flight.js';
import { KeyedQueue, type ConcurrencyLimit } from './keyed-queue.js';
import type { DeferredSettlement, Settled } from './settlement.js';

/** Why a source is paused; it goes on when no reason is left. */
type PauseReason = 'in-flight' | 'dead-letter';

export interface DeliveryDispatcherFields {
  readonly concurrency: number;
  /**
   * Whether a pause leaves what was delivered with us. Where it does not, the driver's own window bounds what
   * is in flight.
   */
  readonly pausesWithoutRedelivery: boolean;
  /**
   * False on a log: there the message that waits holds its lane, and one topic's letters must not stop the
   * others.
   */
  readonly pausesWhileRepublishBlocked: boolean;
  readonly clock: StorkClock;
  /** Bounds of the handlers that it will get. Undefined where no handler has one. */
  readonly limitsOf?: ((delivery: Delivery) => readonly ConcurrencyLimit[]) | undefined;
  process(delivery: Delivery): Promise<Settled | DeferredSettlement>;
  /** Called where `process` has rejected. Must not reject. */
  onProcessFailed(delivery: Delivery, error: unknown): Promise<Settled>;
  /** Returns what was taken and will not run. */
  returnToSource(delivery: Delivery): void;
}

/**
 * Between a driver's subscription and the pipeline: bounds what is in flight, keeps lanes in order, drains.
 */
export class DeliveryDispatcher implements DeliverySink {
  readonly #fields: DeliveryDispatcherFields;
  readonly #inFlight: InFlight;
  readonly #lanes: KeyedQueue<Delivery>;
  readonly #pauseReasons = new Set<PauseReason>();
  readonly #sessions = new WeakSet<SourceSession>();
  readonly #atWork = new Set<Delivery>();
  /** Their handlers have ended and keep them for a while. */
  readonly #held = new Set<Delivery>();
  #onNoneHeld: (() => void) | undefined;
  readonly #abandoned = withResolvers<void>();
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
    this.#lanes = new KeyedQueue(fields.concurrency, (delivery) => this.#run(delivery));
  }

  /** Messages taken and not settled. */
  get inFlight(): number {
    return this.#inFlight.messages;
  }

  /** Handlers at work now. */
  get running(): number {
    return this.#lanes.running;
  }

  /** Messages that handlers have kept and not settled. */
  get deferred(): number {
    return this.#held.size;
  }

  /** Deliveries may have come before the driver returned the subscription, and so may a shutdown. */
  attach(subscription: Subscription): void {
    this.#subscription = subscription;
    if (this.#stopped) void this.#stopSource();
    else if (this.#pauseReasons.size > 0) subscription.pause();
  }

  deliver(delivery: Delivery): void {
    this.#inFlight.add(delivery.message.body?.length ?? 0);
    // Once stopped, the lanes start nothing: it is given back together with the rest.
    this.#enqueue(delivery);
    this.#follow(delivery.session);
  }

  #enqueue(delivery: Delivery): void {
    this.#lanes.push(delivery.orderingKey, delivery, this.#fields.limitsOf?.(delivery));
  }

  quiesce(): Promise<void> {
    return this.#lanes.quiesce();
  }

  resume(): void {
    if (!this.#stopped) this.#lanes.resume();
  }

  /**
   * Called around the time in which a dead letter cannot be written; several may overlap. True for the first
   * and for the last.
   */
  onRepublishBlocked(isBlocked: boolean): boolean {
    this.#blockedRepublishes += isBlocked ? 1 : -1;
    if (isBlocked && this.#fields.pausesWhileRepublishBlocked) this.#pauseFor('dead-letter');
    else if (this.#blockedRepublishes === 0) this.#resumeFor('dead-letter');
    return this.#blockedRepublishes === (isBlocked ? 1 : 0);
  }

  /**
   * Takes nothing more, gives back what has not begun, waits for what has and for what handlers keep; after
   * `limitMs` aborts the rest and gives that back too. A second call can only shorten the wait of the first.
   */
  async drain(limitMs: number, onAbandon: () => void): Promise<void> {
    this.#stopped = true;
    this.#draining ??= this.#drain();
    if (await settlesWithin(this.#fields.clock, this.#draining, limitMs)) return;
    if (this.running + this.deferred > 0) onAbandon();
    for (const delivery of [...this.#atWork, ...this.#held]) {
      delivery.abort();
      this.#fields.returnToSource(delivery);
    }
    // The source may hang in its stop.
    this.#releaseWaiting(() => true);
    this.#abandoned.resolve();
    await this.#draining;
  }

  async #drain(): Promise<void> {
    const quiesced = this.#lanes.quiesce();
    await Promise.race([this.#stopSource(), this.#abandoned.promise]);
    await Promise.race([quiesced, this.#abandoned.promise]);
    await Promise.race([this.#noneHeld(), this.#abandoned.promise]);
  }

  #noneHeld(): Promise<void> {
    if (this.#held.size === 0) return Promise.resolve();
    return new Promise((resolve) => (this.#onNoneHeld = resolve));
  }

  async #stopSource(): Promise<void> {
    // Whatever the driver meets there, what waits must be given back.
    await this.#subscription?.stop().catch(() => {});
    this.#releaseWaiting(() => true);
  }

  async #run(delivery: Delivery): Promise<void> {
    this.#atWork.add(delivery);
    let outcome: Settled | DeferredSettlement = 'reprocess';
    try {
      while (outcome === 'reprocess' && delivery.open && !delivery.aborted) {
        try {
          outcome = await this.#fields.process(delivery);
        } catch (error) {
          outcome = await this.#fields.onProcessFailed(delivery, error);
        }
      }
    } finally {
      this.#atWork.delete(delivery);
      if (typeof outcome === 'object') this.#hold(delivery, outcome.settled);
      else this.#forget(delivery);
    }
  }

  /** Its lane and its slot are free; it counts as in flight until it is settled. */
  #hold(delivery: Delivery, later: Promise<Settled>): void {
    this.#held.add(delivery);
    void later
      .catch((error: unknown) => this.#fields.onProcessFailed(delivery, error))
      .then((outcome) => {
        this.#held.delete(delivery);
        if (outcome === 'reprocess' && delivery.open && !delivery.aborted) this.#runAgain(delivery);
        else this.#forget(delivery);
        if (this.#held.size === 0) this.#onNoneHeld?.();
      });
  }

  #runAgain(delivery: Delivery): void {
    if (!this.#stopped) return this.#enqueue(delivery);
    this.#forget(delivery);
    this.#fields.returnToSource(delivery);
  }

  #forget(delivery: Delivery): void {
    this.#inFlight.remove(delivery.message.body?.length ?? 0);
  }

  /** When a source is lost, what waits here is somebody else's, and what is at work works for nothing. */
  #follow(session: SourceSession): void {
    if (this.#sessions.has(session)) return;
    this.#sessions.add(session);
    session.onEnd(() => {
      this.#releaseWaiting((delivery) => delivery.session === session);
      this.#abortOf(session, this.#atWork);
      this.#abortOf(session, this.#held);
    });
  }

  /** But for what is this process's alone, which no other consumer will get. */
  #abortOf(session: SourceSession, deliveries: Iterable<Delivery>): void {
    for (const delivery of deliveries)
      if (delivery.session === session && !delivery.isEarlyAcked) delivery.abort();
  }

  /** Those that stay keep the order of their lanes. */
  #releaseWaiting(isReleased: (delivery: Delivery) => boolean): void {
    for (const delivery of this.#lanes.takeWaiting()) {
      if (!isReleased(delivery)) {
        this.#enqueue(delivery);
        continue;
      }
      this.#forget(delivery);
      this.#fields.returnToSource(delivery);
    }
  }

  #pauseFor(reason: PauseReason): void {
    const wasFlowing = this.#pauseReasons.size === 0;
    this.#pauseReasons.add(reason);
    if (!wasFlowing || this.#stopped) return;
    this.#subscription?.pause();
    // A source that opens a new window when it goes on must have the old one back, or windows would pile up.
    if (!this.#fields.pausesWithoutRedelivery) this.#releaseWaiting(() => true);
  }

  #resumeFor(reason: PauseReason): void {
    if (!this.#pauseReasons.delete(reason) || this.#pauseReasons.size > 0 || this.#stopped) return;
    this.#subscription?.resume();
  }
}
