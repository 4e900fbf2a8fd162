import { BaseRpcContext, type PacketMetadata } from '@nestjs/microservices';
import { StorkConfigError } from '../../core/runtime/errors.js';
import type { HandlerAttempt, Verb } from '../../core/consume/handler-attempt.js';
import { headerNames, readText, reservedPrefix, type MessageHeaders } from '../../core/message/headers.js';
import type { InboundMessage } from '../../core/port/message.js';
import { maxRequestedDelayMs } from '../../core/retry/retry-policy.js';
import { printable } from '../../core/message/text.js';

/** What the library writes on a context and nobody else reads. */
export interface AttemptRecord {
  /** The error before Nest's exception filters turned it into something else. */
  original: { readonly error: unknown } | undefined;
}

const records = new WeakMap<StorkContext, AttemptRecord>();

const acknowledged: Verb = { kind: 'ack' };
const requeued: Verb = { kind: 'requeue' };
const rejected: Verb = { kind: 'reject' };

/**
 * What a handler gets by `@Ctx()`: one run of one handler for one delivery.
 *
 * @publicApi
 */
export class StorkContext extends BaseRpcContext<[InboundMessage]> {
  /** Name of the transport that the message came by. */
  readonly transport: string;
  /** The pattern that selected the handler, as the sender wrote it. */
  readonly pattern: string;
  readonly #run: HandlerAttempt;

  constructor(transport: string, run: HandlerAttempt) {
    super([run.delivery.message]);
    this.transport = transport;
    this.pattern = run.pattern;
    this.#run = run;
  }

  /** The sender's id; on a log without one `topic/partition/offset`; undefined on a queue without one. The same on every delivery. */
  get messageId(): string | undefined {
    return this.#message.messageId;
  }

  /** Of a request, its own id; undefined on events. */
  get requestId(): string | undefined {
    if (this.#run.metadata.reply.kind !== 'address') return undefined;
    return this.#message.correlationId ?? this.#message.messageId;
  }

  /** Identifies the conversation over services; for a message without one it begins with the message itself. */
  get correlationId(): string | undefined {
    const correlation = readText(this.#message.headers, headerNames.correlationId);
    if (correlation !== undefined) return correlation;
    return this.#run.metadata.reply.kind === 'none'
      ? (this.#message.correlationId ?? this.#message.messageId)
      : this.#message.messageId;
  }

  /** Id of the message whose handling sent this one. */
  get causationId(): string | undefined {
    return readText(this.#message.headers, headerNames.causationId);
  }

  /** Messages of one key are handled in order. */
  get key(): string | undefined {
    return this.#message.key;
  }

  /** As the broker's client decoded them: AMQP values have types, Kafka's are bytes. */
  get headers(): MessageHeaders {
    return this.#message.headers;
  }

  /** 1 on the first run, over retries in place and redeliveries. */
  get attempt(): number {
    return this.#run.number;
  }

  /** How many runs there can be, by the handler's retry policy. */
  get maxAttempts(): number {
    return this.#run.maxAttempts;
  }

  /** When a run of this message first failed, in milliseconds since the epoch. */
  get firstFailedAt(): number | undefined {
    return this.#run.firstFailedAt;
  }

  /** True if the broker knows that it has delivered the message before. */
  get redelivered(): boolean {
    return this.#run.delivery.redelivered;
  }

  /** When it was sent, in milliseconds since the epoch, as the sender says. */
  get timestamp(): number | undefined {
    return this.#message.timestamp;
  }

  /** Aborts when the outcome no longer counts: the time of the run is over, the source was lost, or the shutdown's patience is over. */
  get signal(): AbortSignal {
    return this.#run.signal;
  }

  /**
   * Says that the message is handled, whatever the handler does afterwards: an error thrown later is logged and keeps no dead letter. A
   * caller still gets the reply. Under `manual` the message is settled at once, otherwise when the handler has ended.
   *
   * @returns true if it counts; false after another verb, and where the message is settled or was taken away
   */
  ack(): boolean {
    return this.#run.decide(acknowledged);
  }

  /**
   * Says that the message is not handled, whatever the handler does afterwards. `requeue: true` (default): it comes again about a second
   * after the handler has ended, for all its handlers, and a caller gets no reply yet. `requeue: false`: it is kept as a dead letter
   * `rejected`, and a caller gets an error; so it is under `at-most-once` in both cases, where a message has no way back. Under `manual`
   * it may be said after the handler has returned.
   *
   * @returns true if it counts; false after another verb, and where the message is settled or was taken away
   */
  nack({ requeue = true }: { readonly requeue?: boolean | undefined } = {}): boolean {
    return this.#run.decide(requeue ? requeued : rejected);
  }

  /**
   * Asks for the next of the handler's runs, as a failure would, whatever the handler does afterwards; where none is left, the message
   * becomes a dead letter, or its caller gets an error. With `delayMs`, 0 to a day, it comes back through the broker where that can bring
   * it back, rounded up to a delay that the broker has; else it waits in place.
   *
   * @returns true if it counts; false after another verb, and where the message is settled or was taken away
   * @throws StorkConfigError where `delayMs` is no such number
   */
  retry({ delayMs }: { readonly delayMs?: number | undefined } = {}): boolean {
    if (
      delayMs !== undefined &&
      !(Number.isInteger(delayMs) && delayMs >= 0 && delayMs <= maxRequestedDelayMs)
    ) {
      const expected = `an integer from 0 to ${maxRequestedDelayMs}, a day`;
      throw new StorkConfigError([{ name: 'ctx.retry({ delayMs })', expected, given: printable(delayMs) }]);
    }
    return this.#run.decide({ kind: 'retry', delayMs });
  }

  /**
   * Keeps the message as a dead letter `rejected`, with the reason as its error's message, whatever the handler does afterwards; a caller
   * gets an error that says the same.
   *
   * @returns true if it counts; false after another verb, and where the message is settled or was taken away
   */
  deadLetter(reason: string): boolean {
    return this.#run.decide({ kind: 'reject', why: reason });
  }

  /** The client library's own objects for this message. */
  get raw(): unknown {
    return this.#message.raw;
  }

  /** What a client attached by `setOnDispatchHook`: the message's headers that are text and not the library's. */
  getMetadata(): PacketMetadata {
    const metadata: PacketMetadata = {};
    for (const name of Object.keys(this.headers)) {
      const text = name.startsWith(reservedPrefix) ? undefined : readText(this.headers, name, 8_192);
      if (text !== undefined) metadata[name] = text;
    }
    return metadata;
  }

  get #message(): InboundMessage {
    return this.#run.delivery.message;
  }
}

export function recordOf(context: StorkContext): AttemptRecord {
  let record = records.get(context);
  if (record === undefined) {
    record = { original: undefined };
    records.set(context, record);
  }
  return record;
}
