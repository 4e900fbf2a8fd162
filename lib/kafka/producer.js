import { endsWithin } from '../core/clock.js';
import { ConnectionStateCell } from '../core/connection-state.js';
import {
  BufferFullError,
  ClientClosedError,
  MessageTooLargeError,
  messageOf,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
} from '../core/errors.js';
import { ClientProducers } from './client-producers.js';
import { KafkaClientError } from './client.js';
import { Outages } from './outages.js';
import { PendingRecord, sizeOf } from './partition-queue.js';
import { isPartition, partitionBy, partitionOfKey } from './partitioner.js';
import { TopicRoute } from './topic-route.js';
/** More in one request, and the client's grouping of them takes longer than the broker's work. */
const maxRecords = 1_000;
/** Brokers take 1 MiB; headers of the batch, and what compression adds to bytes that do not compress, need room. */
const defaultMaxBatchBytes = 900_000;
/** A connection may be told goodbye for this long, even where nothing is left of a shutdown's time. */
const goodbyeMs = 500;
/**
 * Writes records and confirms each. One request at a time for a partition, or order would be lost; partitions side by side. What arrives
 * while a request is under way goes out together in the next. What the broker cannot take for now waits, in order, within the bound.
 */
export class Producer {
  state = new ConnectionStateCell();
  #fields;
  #limits;
  #outages;
  #clients;
  #routes = new Map();
  #due = [];
  #isSendScheduled = false;
  #sendScheduled = () => {
    this.#isSendScheduled = false;
    this.#sendDue();
  };
  #records = 0;
  #bytes = 0;
  #flushing = [];
  #closing;
  #ended = false;
  constructor(fields) {
    this.#fields = fields;
    this.#limits = { maxRecords, maxBytes: fields.maxBatchBytes ?? defaultMaxBatchBytes };
    this.#outages = new Outages({ ...fields, state: this.state });
    this.#clients = new ClientProducers({
      ...fields,
      outages: this.#outages,
      up: () => {
        if (!this.#outages.any) this.state.move({ value: 'ready' });
        this.#sendDue();
      },
      refused: (error) => this.#refused(error),
    });
  }
  /** Records that are not settled, and their bytes. */
  get buffered() {
    return { messages: this.#records, bytes: this.#bytes };
  }
  /** Resolves when it can send; rejects where the broker refuses, and when it is closed first. The first publish opens it too. */
  open() {
    if (this.state.current.value === 'idle') this.state.move({ value: 'connecting' });
    return this.#clients.ready();
  }
  /** @param partition undefined: by the key, else where the others without a key go */
  publish(topic, record, partition) {
    const { name, maxBufferedMessages, maxBufferedBytes } = this.#fields;
    if (this.#closing !== undefined) return Promise.reject(new ClientClosedError(`${name}: closed`));
    const bytes = sizeOf(record);
    if (this.#records >= maxBufferedMessages || this.#bytes + bytes > maxBufferedBytes) {
      const held = `${this.#records} messages with ${this.#bytes} bytes wait for the broker`;
      return Promise.reject(
        new BufferFullError(`${name}: ${held}, maxBufferedMessages or maxBufferedBytes allows no more`),
      );
    }
    this.#records++;
    this.#bytes += bytes;
    return new Promise((resolve, reject) => {
      this.#accept(topic, new PendingRecord(record, bytes, partition, resolve, reject));
    });
  }
  /** Resolves when everything that was accepted is settled. */
  async flush() {
    if (this.#records === 0) return;
    await new Promise((resolve) => {
      this.#flushing.push(resolve);
    });
  }
  /**
   * Accepts nothing more and flushes for at most `limitMs`; whoever still waits then gets `ClientClosedError`, or
   * `PublishUnconfirmedError` where the record was on its way. Idempotent. Never rejects.
   */
  close(limitMs) {
    this.#closing ??= this.#close(limitMs);
    return this.#closing;
  }
  async #close(limitMs) {
    const { clock, name } = this.#fields;
    const endMs = clock.now() + limitMs;
    if (this.#records > 0) await endsWithin(clock, this.flush(), limitMs);
    this.#ended = true;
    this.#outages.end();
    this.#failUnderWay(this.#queues(), `${name}: closed before what was on its way was confirmed`);
    this.#failUnsent(new ClientClosedError(`${name}: closed before it was sent`));
    await this.#clients.close(Math.max(goodbyeMs, endMs - clock.now()));
    this.state.move({ value: 'closed' });
  }
  #accept(topic, pending) {
    const route = this.#route(topic);
    // Behind what waits, or a record would overtake it.
    if (route.waiting.length === 0) {
      const partitions = this.#fields.topics.known(topic);
      const isBeyond = pending.partition !== undefined && pending.partition >= (partitions ?? 0);
      if (partitions !== undefined && !isBeyond) return this.#place(route, pending, partitions);
    }
    route.waiting.push(pending);
    if (!route.isAsking) {
      route.isAsking = true;
      void this.#ask(route);
    }
  }
  /** How many partitions a topic has, for those that wait to know. Never rejects. */
  async #ask(route) {
    const { topics } = this.#fields;
    let partitions;
    try {
      // What is known already was not enough: somebody names a partition beyond.
      partitions = await topics.refreshed(route.topic);
    } catch (error) {
      partitions = topics.known(route.topic);
      if (partitions === undefined) return this.#askFailed(route, failureOf(error));
    }
    if (this.#ended) return;
    if (partitions === undefined) {
      return this.#rejectAsked(route, new NoRouteError(`there is no topic ${JSON.stringify(route.topic)}`));
    }
    for (const pending of this.#takeAsked(route)) this.#place(route, pending, partitions);
  }
  #askFailed(route, error) {
    if (this.#ended) return;
    if (error.failure !== 'refused') {
      return this.#outages.backOff(route, error, () => void this.#ask(route));
    }
    const why = `the broker does not say what partitions ${JSON.stringify(route.topic)} has: ${error.message}`;
    this.#rejectAsked(route, new PublishRejectedError(why, { cause: error }));
  }
  /** The broker has answered: those that waited for it. */
  #takeAsked(route) {
    this.#outages.over(route);
    route.isAsking = false;
    return takeWaiting(route);
  }
  #rejectAsked(route, error) {
    // Names of topics come from outside, e.g. as reply addresses: those that do not exist must not pile up.
    if (route.queues.length === 0) this.#routes.delete(route.topic);
    this.#reject(this.#takeAsked(route), error);
  }
  /** Into the queue of its partition. */
  #place(route, pending, partitions) {
    let partition;
    try {
      partition = this.#choose(route, pending, partitions);
    } catch (error) {
      return this.#settle(pending, error);
    }
    const queue = route.queue(partition);
    queue.push(pending);
    if (queue.phase === 'idle') this.#makeDue(queue);
  }
  #choose(route, { partition, record }, partitions) {
    const { topic } = route;
    if (partition !== undefined) {
      if (isPartition(partition, partitions)) return partition;
      throw new NoRouteError(
        `the topic ${JSON.stringify(topic)} has no partition ${partition}, only ${partitions}`,
      );
    }
    const { partitioner, random } = this.#fields;
    if (partitioner !== undefined) return partitionBy(partitioner, { topic, key: record.key, partitions });
    return record.key === null ? route.sticky(partitions, random) : partitionOfKey(record.key, partitions);
  }
  /** It is sent when this turn's publishes are in: what is published together goes out together. */
  #makeDue(queue) {
    queue.phase = 'due';
    this.#due.push(queue);
    if (this.#isSendScheduled) return;
    this.#isSendScheduled = true;
    queueMicrotask(this.#sendScheduled);
  }
  #sendDue() {
    if (this.#due.length === 0 || this.#ended) return;
    const lease = this.#clients.current;
    if (lease === undefined) {
      if (this.state.current.value === 'idle') this.state.move({ value: 'connecting' });
      return this.#clients.open();
    }
    const due = this.#due;
    this.#due = [];
    for (const queue of due) {
      if (queue.isEmpty) queue.phase = 'idle';
      else void this.#send(lease, queue);
    }
  }
  /** One request, and what becomes of it. Never rejects. */
  async #send(lease, queue) {
    const records = queue.begin(this.#limits);
    queue.phase = 'sending';
    lease.sending.add(queue);
    this.#route(queue.topic).sent(queue.partition, queue.bytesUnderWay);
    let failure;
    try {
      await lease.client.send(queue.topic, queue.partition, records);
    } catch (error) {
      failure = failureOf(error);
    }
    lease.end(queue);
    if (this.#ended) return;
    if (failure === undefined) for (const pending of queue.takeUnderWay()) this.#settle(pending);
    else this.#sendFailed(lease, queue, failure);
    this.#sent(queue, failure);
  }
  /** On to what has come in between. */
  #sent(queue, failure) {
    if (failure?.failure === 'unavailable' && !queue.isEmpty) {
      queue.phase = 'backing-off';
      this.#route(queue.topic).leave(queue.partition);
      return this.#outages.backOff(queue, failure, () => this.#makeDue(queue));
    }
    this.#outages.over(queue);
    if (queue.isEmpty) queue.phase = 'idle';
    else this.#makeDue(queue);
  }
  #sendFailed(lease, queue, error) {
    const where = `partition ${queue.partition} of ${JSON.stringify(queue.topic)}`;
    const unconfirmed = `what was sent to ${where} was not confirmed: ${error.message}`;
    if (this.#fields.settings.idempotent) {
      // Its sequence numbers may be wrong from here on: what it confirms for the others cannot be believed either.
      const why = `another request of the same idempotent producer failed: ${error.message}`;
      this.#failUnderWay(lease.sending, why, error);
      this.#clients.retire(lease);
      // The client has tried several times, and only the last is known not to have succeeded: a new producer could double it.
      if (error.failure === 'unavailable') return this.#failUnderWay([queue], unconfirmed, error);
    }
    switch (error.failure) {
      case 'unavailable':
        return queue.giveBack();
      case 'too-large': {
        const alone = queue.halve();
        if (alone !== undefined) this.#settle(alone, tooLarge(alone, where, error));
        return;
      }
      case 'unknown-topic':
        this.#topicIsGone(queue, error);
        // It would wait for this topic's metadata, and soon reject every other topic too.
        return this.#clients.retire(lease);
      case 'unconfirmed':
        return this.#failUnderWay([queue], unconfirmed, error);
      case 'refused':
      case 'unsupported-codec': {
        const why = `the broker refused what was sent to ${where}: ${error.message}`;
        return this.#reject(queue.takeUnderWay(), new PublishRejectedError(why, { cause: error }));
      }
    }
  }
  /** What is on its way to its other partitions gets an answer of its own. */
  #topicIsGone({ topic, partition }, cause) {
    const why = `there is no topic ${JSON.stringify(topic)}, or no partition ${partition} of it any more`;
    const error = new NoRouteError(why, { cause });
    const route = this.#route(topic);
    this.#fields.topics.forget(topic);
    this.#reject(route.queue(partition).takeUnderWay(), error);
    this.#failUnsentOf(route, error);
  }
  #failUnderWay(queues, why, cause) {
    let error;
    for (const queue of queues) {
      const pending = queue.takeUnderWay();
      if (pending.length === 0) continue;
      error ??= new PublishUnconfirmedError(why, { cause });
      this.#reject(pending, error);
    }
  }
  /** The next publish tries again. */
  #refused(error) {
    this.#failUnsent(error);
    for (const queue of this.#due) queue.phase = 'idle';
    this.#due = [];
  }
  #failUnsent(error) {
    for (const route of this.#routes.values()) this.#failUnsentOf(route, error);
  }
  #failUnsentOf(route, error) {
    this.#reject(takeWaiting(route), error);
    for (const queue of route.queues) {
      this.#reject(queue.takeUnsent(), error);
      if (queue.phase !== 'backing-off') continue;
      this.#outages.over(queue);
      queue.phase = 'idle';
    }
  }
  #reject(pending, error) {
    for (const one of pending) this.#settle(one, error);
  }
  #settle(pending, error) {
    this.#records--;
    this.#bytes -= pending.bytes;
    if (error === undefined) pending.resolve();
    else pending.reject(error);
    if (this.#records > 0 || this.#flushing.length === 0) return;
    for (const resolve of this.#flushing.splice(0)) resolve();
  }
  #route(topic) {
    let route = this.#routes.get(topic);
    if (route === undefined) {
      route = new TopicRoute(topic);
      this.#routes.set(topic, route);
    }
    return route;
  }
  *#queues() {
    for (const { queues } of this.#routes.values()) yield* queues;
  }
}
function takeWaiting(route) {
  const { waiting } = route;
  route.waiting = [];
  return waiting;
}
/** What is no error of the port's says nothing about the record. */
function failureOf(error) {
  if (error instanceof KafkaClientError) return error;
  return new KafkaClientError('unconfirmed', messageOf(error), { cause: error });
}
function tooLarge({ bytes }, where, cause) {
  const why = `a message of about ${bytes} bytes does not fit into ${where}: ${cause.message}`;
  return new MessageTooLargeError(why, { cause });
}
