import { BrokerError } from '../broker-error.js';
import { Mailbox } from '../mailbox.js';
import type { MemoryMessage } from '../message.js';
import type { QueueEntry } from './ready-list.js';

export interface QueueDelivery {
  /** Delivery tag: unique per consumer, from 1. */
  readonly tag: number;
  readonly message: MemoryMessage;
  readonly redelivered: boolean;
  /** Earlier deliveries of the message that were requeued; 0 on the first. */
  readonly deliveryCount: number;
}

export interface ConsumeOptions {
  /** Limit of unacknowledged deliveries; 0 for no limit. */
  readonly prefetch: number;
  /** Called asynchronously, never from within a call of the broker. Must not throw. */
  onDelivery(delivery: QueueDelivery): void;
  /** The queue was deleted. */
  onCancelled?: (() => void) | undefined;
}

export interface QueueConsumer {
  ack(tag: number): void;
  nack(tag: number, requeue: boolean): void;
  /** Stops deliveries. Unacknowledged messages can still be settled. */
  cancel(): void;
  /** Cancels, and requeues every unacknowledged message. */
  close(): void;
}

/** The queue, as its consumers call it. */
export interface ConsumerCallbacks {
  settled(): void;
  rejected(entry: QueueEntry): void;
  /** Requeues messages; only those that were `delivered` count as redelivered. */
  returned(delivered: readonly QueueEntry[], undelivered: readonly QueueEntry[]): void;
  detached(consumer: AttachedConsumer): void;
}

/** One consumer of a queue, with its prefetch window and its unacknowledged messages. */
export class AttachedConsumer implements QueueConsumer {
  readonly #queueName: string;
  readonly #options: ConsumeOptions;
  readonly #callbacks: ConsumerCallbacks;
  readonly #unacked = new Map<number, QueueEntry>();
  readonly #outbox: Mailbox<number>;
  #lastTag = 0;
  #state: 'active' | 'cancelled' | 'closed' = 'active';

  constructor(queueName: string, options: ConsumeOptions, callbacks: ConsumerCallbacks) {
    this.#queueName = queueName;
    this.#options = options;
    this.#callbacks = callbacks;
    this.#outbox = new Mailbox((tag) => this.#deliver(tag));
  }

  get hasCapacity(): boolean {
    const { prefetch } = this.#options;
    return this.#state === 'active' && (prefetch === 0 || this.#unacked.size < prefetch);
  }

  take(entry: QueueEntry): void {
    const tag = ++this.#lastTag;
    this.#unacked.set(tag, entry);
    this.#outbox.post(tag);
  }

  ack(tag: number): void {
    this.#settle(tag);
    this.#callbacks.settled();
  }

  nack(tag: number, requeue: boolean): void {
    const entry = this.#settle(tag);
    if (requeue) this.#callbacks.returned([entry], []);
    else this.#callbacks.rejected(entry);
  }

  cancel(): void {
    if (this.#state !== 'active') return;
    this.#state = 'cancelled';
    this.#callbacks.detached(this);
    this.#callbacks.returned([], this.#withdraw());
  }

  close(): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'active') this.#callbacks.detached(this);
    this.#state = 'closed';
    const undelivered = this.#withdraw();
    const delivered = [...this.#unacked.values()];
    this.#unacked.clear();
    // All in one call: otherwise another consumer could get the second message before the first is
    // requeued.
    this.#callbacks.returned(delivered, undelivered);
  }

  /** Called when the queue was deleted: settling a message has no effect any more. */
  queueDeleted(): void {
    if (this.#state !== 'active') return;
    this.#state = 'cancelled';
    this.#withdraw();
    this.#options.onCancelled?.();
  }

  #deliver(tag: number): void {
    const { message, redelivered, deliveryCount } = this.#unacked.get(tag)!;
    this.#options.onDelivery({ tag, message, redelivered, deliveryCount });
  }

  #withdraw(): QueueEntry[] {
    return this.#outbox.withdraw().map((tag) => this.#settle(tag));
  }

  #settle(tag: number): QueueEntry {
    const entry = this.#unacked.get(tag);
    if (entry === undefined) {
      const why = this.#state === 'closed' ? 'the consumer is closed' : 'never delivered or settled already';
      throw new BrokerError(
        406,
        `Unknown delivery tag ${tag} at a consumer of queue "${this.#queueName}": ${why}`,
      );
    }
    this.#unacked.delete(tag);
    return entry;
  }
}
