import type { Delivery } from '../port/delivery.js';
import type { RetryTimers } from '../retry/retry-timers.js';
import type { ProcessingSlot } from '../consume/delivery-context.js';
import type { KeyedQueue, QueueEntry } from './keyed-queue.js';

/**
 * When a source is paused and resumed. The thresholds differ, so that the source does not alternate with
 * each message.
 */
export interface InFlightLimits {
  /** Unsettled messages at which the source is paused. */
  readonly pauseAtMessages: number;
  /** Unsettled messages at or below which the source is resumed. */
  readonly resumeAtMessages: number;
  /** Bytes of unsettled bodies at which the source is paused; it is resumed at half of this. */
  readonly pauseAtBytes: number;
}

const defaultPauseAtBytes = 64 * 1024 * 1024;

/**
 * Enough waiting messages to keep handlers of many keys busy, few enough to requeue quickly at shutdown.
 */
export function inFlightLimits(concurrency: number): InFlightLimits {
  const pauseAtMessages = Math.max(64, concurrency * 4);
  return {
    pauseAtMessages,
    resumeAtMessages: pauseAtMessages / 2,
    pauseAtBytes: defaultPauseAtBytes,
  };
}

/** Counts the unsettled messages of a source and reports when a threshold is crossed. */
export class InFlight {
  readonly #limits: InFlightLimits;
  readonly #onFull: () => void;
  readonly #onCapacity: () => void;
  #messages = 0;
  #bytes = 0;
  #suspended = 0;
  #full = false;

  constructor(limits: InFlightLimits, onFull: () => void, onCapacity: () => void) {
    this.#limits = limits;
    this.#onFull = onFull;
    this.#onCapacity = onCapacity;
  }

  get messages(): number {
    return this.#messages;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(bytes: number): void {
    this.#messages++;
    this.#bytes += bytes;
    this.#pauseIfFull();
  }

  remove(bytes: number): void {
    this.#messages--;
    this.#bytes -= bytes;
    this.#resumeIfFree();
  }

  /** A message that waits between attempts is not counted among the messages in flight, but its body is. */
  suspend(change: 1 | -1): void {
    this.#suspended += change;
    if (change === 1) this.#resumeIfFree();
    else this.#pauseIfFull();
  }

  #pauseIfFull(): void {
    const { pauseAtMessages, pauseAtBytes } = this.#limits;
    if (this.#full || (this.#active < pauseAtMessages && this.#bytes < pauseAtBytes)) return;
    this.#full = true;
    this.#onFull();
  }

  #resumeIfFree(): void {
    const { resumeAtMessages, pauseAtBytes } = this.#limits;
    if (!this.#full || this.#active > resumeAtMessages || this.#bytes > pauseAtBytes / 2) return;
    this.#full = false;
    this.#onCapacity();
  }

  get #active(): number {
    return this.#messages - this.#suspended;
  }
}

/** What the slots of one dispatcher share. */
export interface SlotHost {
  readonly queue: KeyedQueue<Delivery>;
  readonly timers: RetryTimers;
  /** Called with 1 when a delivery starts to wait without a slot, and with -1 when that ends. */
  onSuspended(change: 1 | -1): void;
  /** Called with 1 when a delivery has left its slot and key, and with -1 when it has them again or ends. */
  onDeferred(change: 1 | -1): void;
}

/** The concurrency slot of one delivery that has started. All its handlers share it. */
export class DeliverySlot implements ProcessingSlot {
  readonly entry: QueueEntry<Delivery>;
  /** Neighbours in `StartedDeliveries`. */
  previous: DeliverySlot | undefined;
  next: DeliverySlot | undefined;
  readonly #host: SlotHost;
  #state: 'held' | 'suspended' | 'left' = 'held';
  #running = 1;
  #waiting = 0;
  #readmission: Promise<boolean> | undefined;

  constructor(entry: QueueEntry<Delivery>, host: SlotHost) {
    this.entry = entry;
    this.#host = host;
  }

  get delivery(): Delivery {
    return this.entry.item;
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
    const { timers } = this.#host;
    const hasElapsed = await timers.wait(delayMs, this.delivery, until);
    this.#running++;
    this.#waiting--;
    // A shutdown that begins before this line has found neither a timer nor a wait for a slot to interrupt.
    const isInterrupted = !hasElapsed || timers.isClosed || this.delivery.aborted;
    if (isInterrupted) this.#interrupted();
    if (isInterrupted || this.#state === 'held') return !isInterrupted;
    this.#readmission ??= this.#readmit();
    return this.#readmission;
  }

  leave(): void {
    this.#host.queue.leave(this.entry);
    this.#move('left');
  }

  /** Called when the delivery is settled. */
  end(): void {
    this.#move('held');
  }

  #suspendIfAllWait(): void {
    if (this.#state !== 'held' || this.#running > 0 || this.#waiting === 0) return;
    this.#host.queue.suspend(this.entry);
    this.#move('suspended');
  }

  async #readmit(): Promise<boolean> {
    const hasSlot = await this.#host.queue.readmit(this.entry);
    this.#readmission = undefined;
    if (hasSlot) this.#move('held');
    else this.#interrupted();
    return hasSlot;
  }

  /**
   * A rebalance waits until the message is settled. Otherwise a copy for some of its handlers could be
   * written while the partition moves, and the message be redelivered besides.
   */
  #interrupted(): void {
    if (this.#state === 'held') return;
    this.#host.queue.interrupted(this.entry);
    this.#move('held');
  }

  #move(state: 'held' | 'suspended' | 'left'): void {
    if (this.#state === 'suspended') this.#host.onSuspended(-1);
    if (this.#state === 'left') this.#host.onDeferred(-1);
    this.#state = state;
    if (state === 'suspended') this.#host.onSuspended(1);
    if (state === 'left') this.#host.onDeferred(1);
  }
}

/**
 * The deliveries that have started and are not settled, in a list that runs through their slots. A `Set` that
 * lives long and changes with each message makes V8 move the messages into the old generation: its
 * replaced hash tables keep each other, and what they held, alive until a full garbage collection.
 */
export class StartedDeliveries {
  #first: DeliverySlot | undefined;
  #last: DeliverySlot | undefined;

  get isEmpty(): boolean {
    return this.#first === undefined;
  }

  add(slot: DeliverySlot): void {
    slot.previous = this.#last;
    if (this.#last === undefined) this.#first = slot;
    else this.#last.next = slot;
    this.#last = slot;
  }

  remove(slot: DeliverySlot): void {
    const { previous, next } = slot;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    // A reference from an ended delivery would keep its former neighbours alive with it.
    slot.previous = undefined;
    slot.next = undefined;
  }

  /** In the order in which they have started. `visit` must not end deliveries. */
  forEach(visit: (delivery: Delivery) => void): void {
    for (let slot = this.#first; slot !== undefined; slot = slot.next) visit(slot.delivery);
  }
}
