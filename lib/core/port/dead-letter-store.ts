import type { MessageHeaders } from '../message/headers.js';
import type { InboundMessage } from './message.js';

/** Where dead letters are looked for. What is left out is the transport's own. */
export interface DeadLetterLocation {
  /** Queue or topic that they failed in, and that replayed ones go back to. */
  readonly source?: string | undefined;
  /** Queue or topic in which they lie. @defaultValue the source's companion, `<source>.dlq` */
  readonly from?: string | undefined;
  /**
   * On RabbitMQ, of a quorum queue that this library has not declared: deliveries of a letter after which the queue drops it, from 1. Looks
   * that come near it are refused. @defaultValue 20 on RabbitMQ 4, else none
   */
  readonly deliveryLimit?: number | undefined;
}

/**
 * The dead letters of one source, and on a log of one group. Looking at them loses, settles and reorders nothing; what is done to one
 * of them is done when it is confirmed, and a process that dies in between leaves the letter where it lies, or has replayed it twice.
 */
export interface DeadLetterStore {
  /** The queue or topic in which they lie. */
  readonly name: string;
  /** The queue or topic that replayed letters go back to. */
  readonly source: string;
  /** The group that failed them and gets them back; undefined on a queue. */
  readonly group: string | undefined;
  /** What `ScanOptions.window` should be where nobody says: more than 1 only where a crash replays nothing twice. */
  readonly defaultWindow: number;

  /** Letters that a pass would meet now, at most. */
  count(): Promise<number>;

  /** What a person should know before a pass, a line each, e.g. that nobody consumes the source. */
  warnings(): Promise<readonly string[]>;

  /**
   * Goes once over the letters that lie there when it begins, oldest first (on a log: within each partition), and does with each what the
   * visitor says. Letters of other sources may be among them: the visitor keeps those. What is kept stays in its place and in its order. Resolves when every verdict is carried out; rejects where the
   * connection is lost, or `signal` aborts: then what `settled` was told is done, and all else lies there as it was, on a queue perhaps in
   * another order.
   */
  scan(visitor: DeadLetterVisitor, options: ScanOptions): Promise<void>;

  /** Lets go of what it has opened. Idempotent; never rejects. */
  close(): Promise<void>;
}

/** Letters that can be on their way at once, at most. */
export const maxWindow = 1_000;

export interface ScanOptions {
  /**
   * Verdicts that may be on their way at once, from 1 to `maxWindow`: so many letters can be replayed twice where the process dies in between, but for
   * brokers that replay in a transaction.
   */
  readonly window: number;
  readonly signal: AbortSignal;
}

export interface DeadLetterVisitor {
  /** Asked of one letter after the other; the next waits for the answer. Must not reject. */
  decide(deadLetter: StoredDeadLetter): DeadLetterAction | Promise<DeadLetterAction>;
  /** What came of a verdict that was not to keep it. Must not throw. */
  settled(deadLetter: StoredDeadLetter, outcome: DeadLetterOutcome): void;
}

/**
 * `keep`: it stays. `stop`: it stays, and no further letter is asked about. `replay`: a copy with these headers, the same body and the
 * same key goes to the queue, or to the one group, that failed it, and the letter is gone when that is confirmed.
 */
export type DeadLetterAction = 'keep' | 'stop' | 'discard' | { readonly replay: MessageHeaders };

/** `kept`: it could not be done, e.g. the source is gone; the letter lies where it was. */
export type DeadLetterOutcome = 'replayed' | 'discarded' | { readonly skipped: unknown };

/** A letter as a driver finds it. */
export interface StoredDeadLetter {
  /**
   * Names it in its box: on a log `partition/offset`; on a queue, which has no places, made of what the letter says, so that it is the
   * same each time.
   */
  readonly id: string;
  /** Its `origin` is the box. */
  readonly message: InboundMessage;
  /** How the broker itself dead-lettered it; undefined where a consumer did. */
  readonly brokerCause?: BrokerDeadLetterCause | undefined;
}

/** What a broker says of a message that it dead-lettered by itself. */
export interface BrokerDeadLetterCause {
  readonly reason: 'rejected' | 'expired' | 'max-length' | 'delivery-limit' | 'unknown';
  /** The queue in which it died. */
  readonly source: string;
  readonly exchange?: string | undefined;
  readonly routingKey?: string | undefined;
  /** Milliseconds since the epoch. */
  readonly at?: number | undefined;
}
