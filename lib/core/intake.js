import { endsWithin } from './clock.js';
import { InFlight, marksFor } from './in-flight.js';
import { KeyedLanes } from './keyed-lanes.js';
import { withResolvers } from './promises.js';
/** Between a driver's subscription and the pipeline: bounds what is in flight, keeps lanes in order, drains. */
export class Intake {
  #fields;
  #inFlight;
  #lanes;
  #pauseReasons = new Set();
  #epochs = new WeakSet();
  #atWork = new Set();
  /** Their handlers have ended and keep them for a while. */
  #held = new Set();
  #onNoneHeld;
  #abandoned = withResolvers();
  #subscription;
  #stopped = false;
  #draining;
  #blockedWrites = 0;
  constructor(fields) {
    this.#fields = fields;
    this.#inFlight = new InFlight(
      marksFor(fields.concurrency),
      () => fields.pausesWithoutRedelivery && this.#pauseFor('in-flight'),
      () => this.#resumeFor('in-flight'),
    );
    this.#lanes = new KeyedLanes(fields.concurrency, (delivery) => this.#run(delivery));
  }
  /** Messages taken and not settled. */
  get inFlight() {
    return this.#inFlight.messages;
  }
  /** Handlers at work now. */
  get running() {
    return this.#lanes.running;
  }
  /** Messages that handlers have kept and not settled. */
  get held() {
    return this.#held.size;
  }
  /** Deliveries may have come before the driver returned the subscription, and so may a shutdown. */
  attach(subscription) {
    this.#subscription = subscription;
    if (this.#stopped) void this.#stopSource();
    else if (this.#pauseReasons.size > 0) subscription.pause();
  }
  deliver(delivery) {
    this.#inFlight.add(delivery.message.body?.length ?? 0);
    // Once stopped, the lanes start nothing: it is given back together with the rest.
    this.#enqueue(delivery);
    this.#follow(delivery.epoch);
  }
  #enqueue(delivery) {
    this.#lanes.push(delivery.lane, delivery, this.#fields.boundsOf?.(delivery));
  }
  halt() {
    return this.#lanes.halt();
  }
  proceed() {
    if (!this.#stopped) this.#lanes.proceed();
  }
  /** Called around the time in which a dead letter cannot be written; several may overlap. True for the first and for the last. */
  writingBlocked(isBlocked) {
    this.#blockedWrites += isBlocked ? 1 : -1;
    if (isBlocked) this.#pauseFor('dead-letter');
    else if (this.#blockedWrites === 0) this.#resumeFor('dead-letter');
    return this.#blockedWrites === (isBlocked ? 1 : 0);
  }
  /**
   * Takes nothing more, gives back what has not begun, waits for what has and for what handlers keep; after `limitMs` aborts the rest
   * and gives that back too.
   * A second call can only shorten the wait of the first.
   */
  async drain(limitMs, onAbandon) {
    this.#stopped = true;
    this.#draining ??= this.#drain();
    if (await endsWithin(this.#fields.clock, this.#draining, limitMs)) return;
    if (this.running + this.held > 0) onAbandon();
    for (const delivery of [...this.#atWork, ...this.#held]) {
      delivery.abort();
      this.#fields.release(delivery);
    }
    // The source may hang in its stop.
    this.#releaseWaiting(() => true);
    this.#abandoned.resolve();
    await this.#draining;
  }
  async #drain() {
    const halted = this.#lanes.halt();
    await Promise.race([this.#stopSource(), this.#abandoned.promise]);
    await Promise.race([halted, this.#abandoned.promise]);
    await Promise.race([this.#noneHeld(), this.#abandoned.promise]);
  }
  #noneHeld() {
    if (this.#held.size === 0) return Promise.resolve();
    return new Promise((resolve) => (this.#onNoneHeld = resolve));
  }
  async #stopSource() {
    // Whatever the driver meets there, what waits must be given back.
    await this.#subscription?.stop().catch(() => {});
    this.#releaseWaiting(() => true);
  }
  async #run(delivery) {
    this.#atWork.add(delivery);
    let outcome = 'again';
    try {
      while (outcome === 'again' && delivery.open && !delivery.aborted) {
        try {
          outcome = await this.#fields.process(delivery);
        } catch (error) {
          outcome = await this.#fields.failed(delivery, error);
        }
      }
    } finally {
      this.#atWork.delete(delivery);
      if (typeof outcome === 'object') this.#hold(delivery, outcome.later);
      else this.#forget(delivery);
    }
  }
  /** Its lane and its slot are free; it counts as in flight until it is settled. */
  #hold(delivery, later) {
    this.#held.add(delivery);
    void later
      .catch((error) => this.#fields.failed(delivery, error))
      .then((outcome) => {
        this.#held.delete(delivery);
        if (outcome === 'again' && delivery.open && !delivery.aborted) this.#runAgain(delivery);
        else this.#forget(delivery);
        if (this.#held.size === 0) this.#onNoneHeld?.();
      });
  }
  #runAgain(delivery) {
    if (!this.#stopped) return this.#enqueue(delivery);
    this.#forget(delivery);
    this.#fields.release(delivery);
  }
  #forget(delivery) {
    this.#inFlight.remove(delivery.message.body?.length ?? 0);
  }
  /** When a source is lost, what waits here is somebody else's, and what is at work works for nothing. */
  #follow(epoch) {
    if (this.#epochs.has(epoch)) return;
    this.#epochs.add(epoch);
    epoch.onEnd(() => {
      this.#releaseWaiting((delivery) => delivery.epoch === epoch);
      this.#abortOf(epoch, this.#atWork);
      this.#abortOf(epoch, this.#held);
    });
  }
  /** But for what is this process's alone, which no other consumer will get. */
  #abortOf(epoch, deliveries) {
    for (const delivery of deliveries) if (delivery.epoch === epoch && !delivery.isFinal) delivery.abort();
  }
  /** Those that stay keep the order of their lanes. */
  #releaseWaiting(isReleased) {
    for (const delivery of this.#lanes.takeWaiting()) {
      if (!isReleased(delivery)) {
        this.#enqueue(delivery);
        continue;
      }
      this.#forget(delivery);
      this.#fields.release(delivery);
    }
  }
  #pauseFor(reason) {
    const wasFlowing = this.#pauseReasons.size === 0;
    this.#pauseReasons.add(reason);
    if (!wasFlowing || this.#stopped) return;
    this.#subscription?.pause();
    // A source that opens a new window when it goes on must have the old one back, or windows would pile up.
    if (!this.#fields.pausesWithoutRedelivery) this.#releaseWaiting(() => true);
  }
  #resumeFor(reason) {
    if (!this.#pauseReasons.delete(reason) || this.#pauseReasons.size > 0 || this.#stopped) return;
    this.#subscription?.resume();
  }
}
