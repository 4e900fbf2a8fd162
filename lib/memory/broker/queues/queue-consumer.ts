import { BrokerError } from '../broker-error.js';
import { Mailbox } from '../mailbox.js';
import type { MemoryMessage } from '../message.js';
import type { QueueEntry } from './ready-list.js';

export interface QueueDelivery {
  /** Names the delivery to its consumer; counts from 1. */
  readonly tag: number;
  readonly message: MemoryMessage;
  readonly redelivered: boolean;
  /** Deliveries before this one that were given back; 0 at the first. */
  readonly deliveryCount: number;
}

export interface ConsumeOptions {
  /** Deliveries that may be unacknowledged at once; 0 for any number. */
  readonly prefetch: number;
  /** Called with nothing of the broker on the stack. Must not throw. */
  onDelivery(delivery: QueueDelivery): void;
  /** The queue was deleted. */
  onCancelled?: (() => void) | undefined;
}

export interface QueueConsumer {
  ack(tag: number): void;
  nack(tag: number, requeue: boolean): void;
  /** No more deliveries. What is unacknowledged can still be settled. */
  cancel(): void;
  /** `cancel`, and everything unacknowledged goes back. */
  close(): void;
}

/** What a consumer tells its queue. */
export interface ConsumerHome {
  settled(): void;
  rejected(entry: QueueEntry): void;
  /** `returned` were delivered and come again; `unseen` were only on their way. */
  givenBack(returned: readonly QueueEntry[], unseen: readonly QueueEntry[]): void;
  detached(consumer: AttachedConsumer): void;
}

/** The queue's view of one consumer: its prefetch window and what lies in it. */
export class AttachedConsumer implements QueueConsumer {
  readonly #queueName: string;
  readonly #options: ConsumeOptions;
  readonly #home: ConsumerHome;
  readonly #unacked = new Map<number, QueueEntry>();
  readonly #outbox: Mailbox<number>;
  #lastTag = 0;
  #state: 'active' | 'cancelled' | 'closed' = 'active';

  constructor(queueName: string, options: ConsumeOptions, home: ConsumerHome) {
    this.#queueName = queueName;
    this.#options = options;
    this.#home = home;
    this.#outbox = new Mailbox((tag) => this.#handOver(tag));
  }

  get hasRoom(): boolean {
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
    this.#home.settled();
  }

  nack(tag: number, requeue: boolean): void {
    const entry = this.#settle(tag);
    if (requeue) this.#home.givenBack([entry], []);
    else this.#home.rejected(entry);
  }

  cancel(): void {
    if (this.#state !== 'active') return;
    this.#state = 'cancelled';
    this.#home.detached(this);
    this.#home.givenBack([], this.#withdraw());
  }

  close(): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'active') this.#home.detached(this);
    this.#state = 'closed';
    const unseen = this.#withdraw();
    const returned = [...this.#unacked.values()];
    this.#unacked.clear();
    // In one go: one by one, another consumer could get the second before the first is back.
    this.#home.givenBack(returned, unseen);
  }

  /** The queue is gone; what was delivered may still be settled, to no effect. */
  queueDeleted(): void {
    if (this.#state !== 'active') return;
    this.#state = 'cancelled';
    this.#withdraw();
    this.#options.onCancelled?.();
  }

  #handOver(tag: number): void {
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
