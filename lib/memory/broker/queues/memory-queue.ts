import type { CancelTimer, StorkClock } from '../../../core/runtime/clock.js';
import { BrokerError } from '../broker-error.js';
import type { BrokerDeadLetterReason } from './dead-letter.js';
import type { MemoryMessage } from '../message.js';
import {
  AttachedConsumer,
  type ConsumeOptions,
  type ConsumerHome,
  type QueueConsumer,
} from './queue-consumer.js';
import type { MemoryQueueOptions } from './queue-settings.js';
import { ReadyList, type QueueEntry } from './ready-list.js';

export type { ConsumeOptions, QueueConsumer, QueueDelivery } from './queue-consumer.js';

/** What a queue needs of its broker. */
export interface QueueHost {
  readonly clock: StorkClock;
  deadLetter(queue: MemoryQueueOptions, message: MemoryMessage, reason: BrokerDeadLetterReason): void;
  deleted(queue: MemoryQueue): void;
}

/**
 * A queue that behaves like a RabbitMQ quorum queue. Which consumer gets a message is decided at once, so that lengths and limits
 * are exact; the consumer hears of it after the current stack.
 */
export class MemoryQueue {
  readonly options: MemoryQueueOptions;
  readonly #host: QueueHost;
  readonly #ready = new ReadyList();
  /** Whoever was served last stands last. */
  readonly #consumers: AttachedConsumer[] = [];
  #unacked = 0;
  #lastSequence = 0;
  #deleted = false;
  #cancelExpiry: CancelTimer | undefined;
  #watchedMs: number | undefined;

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

  /** Delivered, or on its way to a consumer, and not settled. */
  get unacked(): number {
    return this.#unacked;
  }

  get consumers(): number {
    return this.#consumers.length;
  }

  /** Ready messages in order, consuming nothing. */
  peek(): readonly MemoryMessage[] {
    return this.#ready.messages();
  }

  /** Takes one ready message out. False: it is not there, or a consumer has it. */
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
    // Before anything expires: a message that lives 0 ms still reaches a consumer that is free now.
    this.#assignFirst();
    this.#progress();
    return 'stored';
  }

  consume(options: ConsumeOptions): QueueConsumer {
    if (this.#deleted) throw new BrokerError(404, `Queue "${this.name}" is deleted`);
    const consumer = new AttachedConsumer(this.name, options, this.#home);
    this.#consumers.push(consumer);
    this.#progress();
    return consumer;
  }

  /** Drops ready messages without dead-lettering them; what is unacknowledged stays. Returns how many. */
  purge(): number {
    const count = this.#ready.length;
    this.#ready.clear();
    this.#progress();
    return count;
  }

  /** Consumers are told, messages vanish; no dead-lettering, as on RabbitMQ. */
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

  readonly #home: ConsumerHome = {
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
    givenBack: (returned, unseen) => {
      if (this.#deleted) return;
      const spent: QueueEntry[] = [];
      for (const entry of returned) {
        entry.redelivered = true;
        entry.deliveryCount += 1;
        if (entry.deliveryCount > (this.options.deliveryLimit ?? Infinity)) spent.push(entry);
        else this.#ready.insert(entry);
      }
      for (const entry of unseen) this.#ready.insert(entry);
      this.#unacked -= returned.length + unseen.length;
      for (const entry of spent) this.#deadLetter(entry, 'delivery_limit');
      this.#progress();
    },
    detached: (consumer) => {
      const index = this.#consumers.indexOf(consumer);
      if (index >= 0) this.#consumers.splice(index, 1);
    },
  };

  /** Does all that has become possible. Dead-lettering may come back here, so each step leaves the queue consistent. */
  #progress(): void {
    if (this.#deleted) return;
    do this.#dropExpired();
    while (this.#assignFirst());
    this.#dropSurplus();
    this.#watchFirst();
  }

  #assignFirst(): boolean {
    if (this.#ready.length === 0) return false;
    const index = this.#consumers.findIndex((consumer) => consumer.hasRoom);
    if (index < 0) return false;
    const [consumer] = this.#consumers.splice(index, 1);
    this.#consumers.push(consumer!);
    this.#unacked += 1;
    consumer!.take(this.#ready.takeFirst()!);
    return true;
  }

  /** Only at the head, as on RabbitMQ: behind a message that lives longer an expired one waits its turn. */
  #dropExpired(): void {
    const nowMs = this.#host.clock.now();
    for (let first = this.#ready.first; first !== undefined; first = this.#ready.first) {
      if (first.expiresAtMs === undefined || first.expiresAtMs > nowMs) return;
      this.#ready.takeFirst();
      this.#deadLetter(first, 'expired');
    }
  }

  #dropSurplus(): void {
    const { maxLength, overflow } = this.options;
    if (maxLength === undefined || overflow === 'reject-publish') return;
    while (this.#ready.length > maxLength) this.#deadLetter(this.#ready.takeFirst()!, 'maxlen');
  }

  #watchFirst(): void {
    const expiresAtMs = this.#ready.first?.expiresAtMs;
    if (expiresAtMs === this.#watchedMs) return;
    this.#cancelExpiry?.();
    this.#watchedMs = expiresAtMs;
    if (expiresAtMs === undefined) return;
    const { clock } = this.#host;
    this.#cancelExpiry = clock.setTimer(expiresAtMs - clock.now(), () => {
      // Forgotten first: a timer that fires early must be set again.
      this.#watchedMs = undefined;
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
