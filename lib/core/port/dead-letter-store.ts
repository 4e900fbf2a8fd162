import type { MessageHeaders } from '../message/headers.js';
import type { InboundMessage } from './message.js';

/** Which dead letters to open. Without a field, the transport's own options apply. */
export interface DeadLetterLocation {
  /** Queue or topic in which the messages failed; replayed messages return to it. */
  readonly source?: string | undefined;
  /** Queue or topic that holds the dead letters. @defaultValue `<source>.dlq` */
  readonly from?: string | undefined;
  /**
   * Only for a queue with a delivery limit that stork has not declared: the number of deliveries, from 1,
   * after which the broker drops a message. Browsing increments the delivery count, so browsing is refused
   * near this limit.
   * @defaultValue the limit that the broker applies by default, if it has one
   */
  readonly deliveryLimit?: number | undefined;
}

/**
 * The dead letters of one source; on a log, those of one consumer group. Browsing neither removes nor
 * reorders them. A dead letter is removed only after its replay is confirmed. If the process dies in
 * between, the dead letter remains, and the message may be replayed twice.
 */
export interface DeadLetterStore {
  /** The queue or topic that holds the dead letters. */
  readonly name: string;
  /** The queue or topic that replayed messages return to. */
  readonly source: string;
  /**
   * The consumer group whose handlers failed; only this group gets the replayed messages. Undefined on a
   * queue.
   */
  readonly group: string | undefined;
  /** Default of `ScanOptions.window`. Above 1 only if a crash cannot replay a message twice. */
  readonly defaultWindow: number;

  /** Upper bound of the dead letters that a scan would read now. */
  count(): Promise<number>;

  /** Warnings for the operator before a scan, one line each, e.g. that the source has no consumer. */
  warnings(): Promise<readonly string[]>;

  /**
   * Reads each dead letter that exists when the scan begins once, oldest first (on a log: within each
   * partition), and executes the action that the visitor returns. The store may also hold dead letters of
   * other sources; the visitor keeps those. Kept dead letters retain their position and order. Resolves
   * when every action is complete. Rejects when the connection is lost or `signal` aborts: actions reported
   * to `settled` are complete, every other dead letter remains; on a queue their order may have changed.
   */
  scan(visitor: DeadLetterVisitor, options: ScanOptions): Promise<void>;

  /** Closes the channels or clients of the store. Idempotent; never rejects. */
  close(): Promise<void>;
}

/** Largest `ScanOptions.window`. */
export const maxWindow = 1_000;

export interface ScanOptions {
  /**
   * Actions that may be in progress at the same time, from 1 to `maxWindow`. As many messages can be
   * replayed twice if the process dies, except on a broker that replays in a transaction.
   */
  readonly window: number;
  readonly signal: AbortSignal;
}

export interface DeadLetterVisitor {
  /** Called for one dead letter at a time; the next call waits for the returned action. Must not reject. */
  decide(deadLetter: StoredDeadLetter): DeadLetterAction | Promise<DeadLetterAction>;
  /** Called with the outcome of each replay or discard. Must not throw. */
  settled(deadLetter: StoredDeadLetter, outcome: DeadLetterOutcome): void;
}

/**
 * `keep`: leaves the dead letter where it is. `stop`: leaves it too, and ends the scan. `discard`: deletes
 * it. `replay`: publishes the message with these headers and the same body and key to the queue, or for the
 * consumer group, in which it failed, and removes the dead letter when the publish is confirmed.
 */
export type DeadLetterAction = 'keep' | 'stop' | 'discard' | { readonly replay: MessageHeaders };

/**
 * `skipped`: the action failed for this reason, e.g. because the source does not exist; the dead letter
 * remains.
 */
export type DeadLetterOutcome = 'replayed' | 'discarded' | { readonly skipped: unknown };

/** A dead letter as a driver reads it. */
export interface StoredDeadLetter {
  /**
   * Identifies it in its store: on a log `partition/offset`. A queue has no positions, so there the id is
   * derived from the content and is the same in every scan.
   */
  readonly id: string;
  /** Its `origin` is the dead letter queue or topic. */
  readonly message: InboundMessage;
  /** Set when the broker dead-lettered the message by itself, undefined when a consumer did. */
  readonly brokerCause?: BrokerDeadLetterCause | undefined;
}

/** What the broker reports about a message that it dead-lettered by itself. */
export interface BrokerDeadLetterCause {
  readonly reason: 'rejected' | 'expired' | 'max-length' | 'delivery-limit' | 'unknown';
  /** The queue from which the broker dead-lettered the message. */
  readonly source: string;
  readonly exchange?: string | undefined;
  readonly routingKey?: string | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly at?: number | undefined;
}
