import { endsWithin, type Clock } from './clock.js';
import type { Delivery } from './delivery.js';
import type { DeliverySink, Subscription } from './driver.js';
import { InFlight, marksFor } from './in-flight.js';
import { KeyedLanes } from './keyed-lanes.js';

/** Why a source is paused; it goes on when no reason is left. */
type PauseReason = 'in-flight' | 'dead-letter';

export interface IntakeFields {
  readonly concurrency: number;
  /** Whether a full house pauses the source; where a pause gives messages back, the driver's own window is the bound. */
  readonly pausesWhenFull: boolean;
  readonly clock: Clock;
  /** Must not reject. */
  process(delivery: Delivery): Promise<void>;
  /** Returns what was taken and will not run. */
  release(delivery: Delivery): void;
}

/** Between a driver's subscription and the pipeline: bounds what is in flight, keeps lanes in order, drains. */
export class Intake implements DeliverySink {
  readonly #fields: IntakeFields;
  readonly #inFlight: InFlight;
  readonly #lanes: KeyedLanes<Delivery>;
  readonly #pauseReasons = new Set<PauseReason>();
  readonly #unsettled = new Set<Delivery>();
  #subscription: Subscription | undefined;
  #stopped = false;
  #writingBlocked = 0;

  constructor(fields: IntakeFields) {
    this.#fields = fields;
    this.#inFlight = new InFlight(
      marksFor(fields.concurrency),
      () => fields.pausesWhenFull && this.#pauseFor('in-flight'),
      () => this.#resumeFor('in-flight'),
    );
    this.#lanes = new KeyedLanes(fields.concurrency, (delivery) => this.#run(delivery));
  }

  /** Messages taken and not settled. */
  get inFlight(): number {
    return this.#inFlight.messages;
  }

  /** Handlers at work now. */
  get running(): number {
    return this.#lanes.running;
  }

  attach(subscription: Subscription): void {
    this.#subscription = subscription;
    // Deliveries may have come before the driver returned the subscription.
    if (this.#pauseReasons.size > 0) subscription.pause();
  }

  deliver(delivery: Delivery): void {
    if (this.#stopped) return this.#fields.release(delivery);
    this.#inFlight.add(delivery.message.body?.length ?? 0);
    this.#lanes.push(delivery.lane, delivery);
  }

  halt(): Promise<void> {
    return this.#lanes.halt();
  }

  proceed(): void {
    if (!this.#stopped) this.#lanes.proceed();
  }

  /** Called around the time in which a dead letter cannot be written; several may overlap. */
  writingBlocked(isBlocked: boolean): void {
    this.#writingBlocked += isBlocked ? 1 : -1;
    if (this.#writingBlocked > 0) this.#pauseFor('dead-letter');
    else this.#resumeFor('dead-letter');
  }

  /**
   * Takes nothing more, gives back what has not begun, waits for what has. After `limitMs` calls `abandon`, which aborts the rest, and
   * gives that back too. Safe to call again.
   */
  async drain(limitMs: number, abandon: () => void): Promise<void> {
    this.#stopped = true;
    const halted = this.#lanes.halt();
    await this.#subscription?.stop();
    for (const delivery of this.#lanes.takeWaiting()) this.#giveUp(delivery);
    if (await endsWithin(this.#fields.clock, halted, limitMs)) return;
    abandon();
    for (const delivery of this.#unsettled) this.#fields.release(delivery);
  }

  async #run(delivery: Delivery): Promise<void> {
    // What waited here while its partition went away belongs to somebody else now.
    if (!delivery.epoch.live) return this.#giveUp(delivery);
    this.#unsettled.add(delivery);
    try {
      await this.#fields.process(delivery);
    } finally {
      this.#unsettled.delete(delivery);
      this.#inFlight.remove(delivery.message.body?.length ?? 0);
    }
  }

  #giveUp(delivery: Delivery): void {
    this.#inFlight.remove(delivery.message.body?.length ?? 0);
    this.#fields.release(delivery);
  }

  #pauseFor(reason: PauseReason): void {
    const wasFlowing = this.#pauseReasons.size === 0;
    this.#pauseReasons.add(reason);
    if (wasFlowing) this.#subscription?.pause();
  }

  #resumeFor(reason: PauseReason): void {
    if (!this.#pauseReasons.delete(reason) || this.#pauseReasons.size > 0 || this.#stopped) return;
    this.#subscription?.resume();
  }
}
