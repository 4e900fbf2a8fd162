import { BaseRpcContext } from '@nestjs/microservices';
import { headerNames, readText, reservedPrefix } from '../core/headers.js';
const records = new WeakMap();
const acknowledged = { kind: 'ack' };
const requeued = { kind: 'requeue' };
const rejected = { kind: 'reject' };
/**
 * What a handler gets by `@Ctx()`: one run of one handler for one delivery.
 *
 * @publicApi
 */
export class StorkContext extends BaseRpcContext {
  /** Name of the transport that the message came by. */
  transport;
  /** The pattern that selected the handler, as the sender wrote it. */
  pattern;
  #run;
  constructor(transport, run) {
    super([run.delivery.message]);
    this.transport = transport;
    this.pattern = run.pattern;
    this.#run = run;
  }
  /** The sender's id; on a log without one `topic/partition/offset`; undefined on a queue without one. The same on every delivery. */
  get messageId() {
    return this.#message.messageId;
  }
  /** Of a request, its own id; undefined on events. */
  get requestId() {
    if (this.#run.facts.reply.kind !== 'address') return undefined;
    return this.#message.correlationId ?? this.#message.messageId;
  }
  /** Identifies the conversation over services; for a message without one it begins with the message itself. */
  get correlationId() {
    const conversation = readText(this.#message.headers, headerNames.correlationId);
    if (conversation !== undefined) return conversation;
    return this.#run.facts.reply.kind === 'none'
      ? (this.#message.correlationId ?? this.#message.messageId)
      : this.#message.messageId;
  }
  /** Id of the message whose handling sent this one. */
  get causationId() {
    return readText(this.#message.headers, headerNames.causationId);
  }
  /** Messages of one key are handled in order. */
  get key() {
    return this.#message.key;
  }
  /** As the broker's client decoded them: AMQP values have types, Kafka's are bytes. */
  get headers() {
    return this.#message.headers;
  }
  /** 1 on the first run, over redeliveries. */
  get attempt() {
    return this.#run.facts.attempt;
  }
  /** When a run of this message first failed, in milliseconds since the epoch. */
  get firstFailedAt() {
    return this.#run.facts.firstFailedAt;
  }
  /** True if the broker knows that it has delivered the message before. */
  get redelivered() {
    return this.#run.delivery.redelivered;
  }
  /** When it was sent, in milliseconds since the epoch, as the sender says. */
  get timestamp() {
    return this.#message.timestamp;
  }
  /** Aborts when the outcome no longer counts: the source was lost, or the shutdown's patience is over. */
  get signal() {
    return this.#run.delivery.signal;
  }
  /**
   * Says that the message is handled, whatever the handler does afterwards: an error thrown later is logged and keeps no dead letter. A
   * caller still gets the reply. Under `manual` the message is settled at once, otherwise when the handler has ended.
   *
   * @returns true if it counts; false after another verb, and where the message is settled or was taken away
   */
  ack() {
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
  nack({ requeue = true } = {}) {
    return this.#run.decide(requeue ? requeued : rejected);
  }
  /** The client library's own objects for this message. */
  get raw() {
    return this.#message.raw;
  }
  /** What a client attached by `setOnDispatchHook`: the message's headers that are text and not the library's. */
  getMetadata() {
    const metadata = {};
    for (const name of Object.keys(this.headers)) {
      const text = name.startsWith(reservedPrefix) ? undefined : readText(this.headers, name, 8_192);
      if (text !== undefined) metadata[name] = text;
    }
    return metadata;
  }
  get #message() {
    return this.#run.delivery.message;
  }
}
export function recordOf(context) {
  let record = records.get(context);
  if (record === undefined) {
    record = { original: undefined };
    records.set(context, record);
  }
  return record;
}
