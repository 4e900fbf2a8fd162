import type { CancelTimer, StorkClock } from '../../../core/runtime/clock.js';
import { BrokerError } from '../broker-error.js';
import type { BrokerDeadLetterReason } from './dead-letter.js';
import type { MemoryMessage } from '../message.js';
import {
  AttachedConsumer,
  type ConsumeOptions,
  type ConsumerCallbacks,
  type QueueConsumer,
} from './queue-consumer.js';
import type { MemoryQueueOptions } from './queue-settings.js';
import { ReadyList, type QueueEntry } from './ready-list.js';

export type { ConsumeOptions, QueueConsumer, QueueDelivery } from './queue-consumer.js';

/** The broker, as its queues call it. */
export interface QueueHost {
  readonly clock: StorkClock;
  deadLetter(queue: MemoryQueueOptions, message: MemoryMessage, reason: BrokerDeadLetterReason): void;
  deleted(queue: MemoryQueue): void;
}

/**
 * A queue that behaves like a RabbitMQ quorum queue. A message is assigned to a consumer synchronously,
 * so that lengths and limits are exact; the consumer's callback runs after the current call stack has
 * returned.
 */
export class MemoryQueue {
  readonly options: MemoryQueueOptions;
  readonly #host: QueueHost;
  readonly #ready = new ReadyList();
  /** Round robin: the consumer that got the last message is last. */
  readonly #consumers: AttachedConsumer[] = [];
  #unacked = 0;
  #lastSequence = 0;
  #deleted = false;
  #cancelExpiry: CancelTimer | undefined;
  #scheduledExpiryMs: number | undefined;

  constructor(options: MemoryQueueOptions, host: QueueHost) {
    this.options = options;
    this.#host = host;
  }

  get name(): string {
    return this.options.name;
  }

  get ready(): number {
    return this.#ready.length;
  }

  /** Messages assigned to consumers and not settled. */
  get unacked(): number {
    return this.#unacked;
  }

  get consumers(): number {
    return this.#consumers.length;
  }

  /** Ready messages in order of delivery. Does not consume them. */
  peek(): readonly MemoryMessage[] {
    return this.#ready.messages();
  }

  /** Removes a ready message. False if the queue does not hold it or a consumer has it. */
  remove(message: MemoryMessage): boolean {
    return this.#ready.remove(message);
  }

  enqueue(message: MemoryMessage): 'stored' | 'rejected' {
    if (this.#deleted || this.#isFull()) return 'rejected';
    this.#ready.insert({
      message,
      sequence: ++this.#lastSequence,
      priority: Math.min(message.properties.priority ?? 0, this.options.maxPriority ?? 0),
      expiresAtMs: this.#expiry(message),
      redelivered: false,
      deliveryCount: 0,
    });
    // Before expiry: as on RabbitMQ, a message with a TTL of 0 ms reaches a consumer that is free now.
    this.#assignFirst();
    this.#progress();
    return 'stored';
  }

  consume(options: ConsumeOptions): QueueConsumer {
    if (this.#deleted) throw new BrokerError(404, `Queue "${this.name}" is deleted`);
    const consumer = new AttachedConsumer(this.name, options, this.#callbacks);
    this.#consumers.push(consumer);
    this.#progress();
    return consumer;
  }

  /** Drops ready messages without dead-lettering them; unacknowledged ones stay. @returns how many */
  purge(): number {
    const count = this.#ready.length;
    this.#ready.clear();
    this.#progress();
    return count;
  }

  /** Cancels the consumers and drops all messages without dead-lettering, as RabbitMQ does. */
  delete(): void {
    if (this.#deleted) return;
    this.#deleted = true;
    this.#cancelExpiry?.();
    this.#ready.clear();
    this.#unacked = 0;
    const consumers = this.#consumers.splice(0);
    this.#host.deleted(this);
    for (const consumer of consumers) consumer.queueDeleted();
  }

  readonly #callbacks: ConsumerCallbacks = {
    settled: () => {
      if (this.#deleted) return;
      this.#unacked -= 1;
      this.#progress();
    },
    rejected: (entry) => {
      if (this.#deleted) return;
      this.#unacked -= 1;
      this.#deadLetter(entry, 'rejected');
      this.#progress();
    },
    returned: (delivered, undelivered) => {
      if (this.#deleted) return;
      const overLimit: QueueEntry[] = [];
      for (const entry of delivered) {
        entry.redelivered = true;
        entry.deliveryCount += 1;
        if (entry.deliveryCount > (this.options.deliveryLimit ?? Infinity)) overLimit.push(entry);
        else this.#ready.insert(entry);
      }
      for (const entry of undelivered) this.#ready.insert(entry);
      this.#unacked -= delivered.length + undelivered.length;
      for (const entry of overLimit) this.#deadLetter(entry, 'delivery_limit');
      this.#progress();
    },
    detached: (consumer) => {
      const index = this.#consumers.indexOf(consumer);
      if (index >= 0) this.#consumers.splice(index, 1);
    },
  };

  /**
   * Expires, assigns and drops messages until none of it is possible. Dead-lettering can enqueue into
   * this very queue and call this method again, so the queue is consistent after each step.
   */
  #progress(): void {
    if (this.#deleted) return;
    do this.#dropExpired();
    while (this.#assignFirst());
    this.#dropOverflow();
    this.#scheduleExpiry();
  }

  #assignFirst(): boolean {
    if (this.#ready.length === 0) return false;
    const index = this.#consumers.findIndex((consumer) => consumer.hasCapacity);
    if (index < 0) return false;
    const [consumer] = this.#consumers.splice(index, 1);
    this.#consumers.push(consumer!);
    this.#unacked += 1;
    consumer!.take(this.#ready.takeFirst()!);
    return true;
  }

  /** As on RabbitMQ, messages expire only at the head of the queue. */
  #dropExpired(): void {
    const nowMs = this.#host.clock.now();
    for (let first = this.#ready.first; first !== undefined; first = this.#ready.first) {
      if (first.expiresAtMs === undefined || first.expiresAtMs > nowMs) return;
      this.#ready.takeFirst();
      this.#deadLetter(first, 'expired');
    }
  }

  #dropOverflow(): void {
    const { maxLength, overflow } = this.options;
    if (maxLength === undefined || overflow === 'reject-publish') return;
    while (this.#ready.length > maxLength) this.#deadLetter(this.#ready.takeFirst()!, 'maxlen');
  }

  #scheduleExpiry(): void {
    const expiresAtMs = this.#ready.first?.expiresAtMs;
    if (expiresAtMs === this.#scheduledExpiryMs) return;
    this.#cancelExpiry?.();
    this.#scheduledExpiryMs = expiresAtMs;
    if (expiresAtMs === undefined) return;
    const { clock } = this.#host;
    this.#cancelExpiry = clock.setTimer(expiresAtMs - clock.now(), () => {
      // A timer that fires early must be scheduled again.
      this.#scheduledExpiryMs = undefined;
      this.#progress();
    });
  }

  #deadLetter(entry: QueueEntry, reason: BrokerDeadLetterReason): void {
    this.#host.deadLetter(this.options, entry.message, reason);
  }

  #isFull(): boolean {
    const { maxLength, overflow } = this.options;
    return overflow === 'reject-publish' && maxLength !== undefined && this.#ready.length >= maxLength;
  }

  #expiry(message: MemoryMessage): number | undefined {
    const ttlMs = Math.min(
      message.properties.expirationMs ?? Infinity,
      this.options.messageTtlMs ?? Infinity,
    );
    return ttlMs === Infinity ? undefined : this.#host.clock.now() + ttlMs;
  }
}
