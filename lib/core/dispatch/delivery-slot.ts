import type { Delivery } from '../port/delivery.js';
import type { RetryTimers } from '../retry/retry-timers.js';
import type { ProcessingSlot } from '../consume/delivery-context.js';
import type { KeyedQueue, QueueEntry } from './keyed-queue.js';

/** What the slots of one dispatcher share. */
export interface SlotHost {
  readonly queue: KeyedQueue<Delivery>;
  readonly timers: RetryTimers;
  /** Called with 1 when a delivery starts to wait without a slot, and with -1 when that ends. */
  onSuspended(change: 1 | -1): void;
  /** Called with 1 when a delivery has left its slot and key, and with -1 when it has them again or ends. */
  onDeferred(change: 1 | -1): void;
}

/** The concurrency slot of one delivery, which all its handlers share. */
export class DeliverySlot implements ProcessingSlot {
  readonly #entry: QueueEntry<Delivery>;
  readonly #host: SlotHost;
  #state: 'held' | 'suspended' | 'left' = 'held';
  #running = 1;
  #waiting = 0;
  #readmission: Promise<boolean> | undefined;

  constructor(entry: QueueEntry<Delivery>, host: SlotHost) {
    this.#entry = entry;
    this.#host = host;
  }

  handlersStarted(count: number): void {
    this.#running = count;
  }

  handlerEnded(): void {
    this.#running--;
    this.#suspendIfAllWait();
  }

  async wait(delayMs: number, until?: Promise<void>): Promise<boolean> {
    this.#running--;
    this.#waiting++;
    this.#suspendIfAllWait();
    const hasElapsed = await this.#host.timers.wait(delayMs, this.#entry.item, until);
    this.#running++;
    this.#waiting--;
    if (!hasElapsed || this.#state === 'held') return hasElapsed;
    this.#readmission ??= this.#readmit();
    return this.#readmission;
  }

  leave(): void {
    this.#host.queue.leave(this.#entry);
    this.#move('left');
  }

  /** Called when the delivery is settled. */
  end(): void {
    this.#move('held');
  }

  #suspendIfAllWait(): void {
    if (this.#state !== 'held' || this.#running > 0 || this.#waiting === 0) return;
    this.#host.queue.suspend(this.#entry);
    this.#move('suspended');
  }

  async #readmit(): Promise<boolean> {
    const hasSlot = await this.#host.queue.readmit(this.#entry);
    this.#readmission = undefined;
    if (hasSlot) this.#move('held');
    return hasSlot;
  }

  #move(state: 'held' | 'suspended' | 'left'): void {
    if (this.#state === 'suspended') this.#host.onSuspended(-1);
    if (this.#state === 'left') this.#host.onDeferred(-1);
    this.#state = state;
    if (state === 'suspended') this.#host.onSuspended(1);
    if (state === 'left') this.#host.onDeferred(1);
  }
}
