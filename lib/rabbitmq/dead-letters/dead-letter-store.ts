import type { ChannelModel, Replies } from 'amqplib';
import type { StorkClock } from '../../core/runtime/clock.js';
import type { DeadLetterStore, DeadLetterVisitor, ScanOptions } from '../../core/port/dead-letter-store.js';
import {
  ClientClosedError,
  ConnectionLostError,
  isStorkError,
  messageOf,
  StorkConfigError,
} from '../../core/runtime/errors.js';
import { withTimeout } from '../../core/runtime/with-timeout.js';
import { brokerRpc } from '../connection/broker-rpc.js';
import type { Connection } from '../connection/connection.js';
import { isAuthError, replyCodeOf, replyCodes } from '../connection/errors.js';
import { DeadLetterScan } from './dead-letter-scan.js';
import { ScanChannel } from './scan-channel.js';
import { brokerDefaultDeliveryLimit } from './delivery-limit.js';
import { declareDeadLetters } from '../topology/topology.js';

const connectTimeoutMs = 10_000;
const closeTimeoutMs = 5_000;

export interface QueueDeadLetterStoreFields {
  /** The dead letter queue. */
  readonly name: string;
  /** Target queue of replayed messages. */
  readonly source: string;
  /** Delivery limit of the dead letter queue as given by the caller. */
  readonly deliveryLimit: number | undefined;
  /** Used by this store only. */
  readonly connection: Connection;
  readonly consumerTimeoutMs: number;
  readonly keyHeader: string;
  readonly clock: StorkClock;
  readonly closed: () => void;
}

/**
 * The dead letters of a queue. A scan consumes them; kept messages are requeued in order when its channel
 * closes.
 */
export class QueueDeadLetterStore implements DeadLetterStore {
  readonly name: string;
  readonly source: string;
  readonly group = undefined;
  readonly defaultWindow = 1;
  readonly #fields: QueueDeadLetterStoreFields;
  readonly #closing = new AbortController();
  readonly #scans = new Set<Promise<void>>();
  #deliveryLimitLookup: Promise<number | undefined> | undefined;

  constructor(fields: QueueDeadLetterStoreFields) {
    this.#fields = fields;
    this.name = fields.name;
    this.source = fields.source;
  }

  /** Connects. Closes the store and rejects if the dead letter queue does not exist. */
  async open(): Promise<void> {
    const timeout = new AbortController();
    const cancel = this.#fields.clock.setTimer(connectTimeoutMs, () => timeout.abort());
    try {
      await this.#fields.connection.open(timeout.signal);
      await this.count();
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      cancel();
    }
  }

  async count(): Promise<number> {
    return (await this.#findQueue()).messageCount;
  }

  async warnings(): Promise<readonly string[]> {
    const [store, source] = await Promise.all([this.#findQueue(), this.#find(this.source)]);
    const warnings = [
      `while "${this.name}" is browsed, its messages are hidden from other consumers, and each one's delivery count rises by one`,
    ];
    const limit = await this.#deliveryLimit();
    if (limit !== undefined)
      warnings.push(
        `"${this.name}" was not declared by stork: if it is a quorum queue, it may drop a dead letter at its delivery ${limit + 1}, and browsing counts as a delivery`,
      );
    if (store.consumerCount > 0)
      warnings.push(
        `"${this.name}" has ${store.consumerCount} other consumers: messages that they hold are not visible`,
      );
    if (source === undefined)
      warnings.push(`there is no queue "${this.source}": dead letters cannot be replayed`);
    else if (source.consumerCount === 0)
      warnings.push(`the queue "${this.source}" has no consumers: replayed messages wait there`);
    return warnings;
  }

  async scan(visitor: DeadLetterVisitor, options: ScanOptions): Promise<void> {
    const scan = this.#scan(visitor, options);
    const ended = scan.catch(() => {});
    this.#scans.add(ended);
    await scan.finally(() => this.#scans.delete(ended));
  }

  async close(): Promise<void> {
    this.#closing.abort(new ClientClosedError(`the dead letters in "${this.name}" are closed`));
    await Promise.all(this.#scans);
    await this.#fields.connection.close(closeTimeoutMs);
    this.#fields.closed();
  }

  async #scan(visitor: DeadLetterVisitor, { window, signal }: ScanOptions): Promise<void> {
    const { name: queue, source, clock, keyHeader, consumerTimeoutMs } = this.#fields;
    const ending = AbortSignal.any([signal, this.#closing.signal]);
    ending.throwIfAborted();
    const deliveryLimit = await withTimeout(this.#deliveryLimit(), { signal: ending });
    const scan = new DeadLetterScan({
      queue,
      source,
      visitor,
      window,
      keyHeader,
      clock,
      signal: ending,
      total: await withTimeout(this.count(), { signal: ending }),
      deliveryLimit,
      // RabbitMQ closes a channel that holds an unacknowledged message longer than the consumer timeout.
      maxHoldMs: consumerTimeoutMs / 2,
      openChannel: () => this.#openChannel(deliveryLimit !== undefined),
    });
    await scan.run();
  }

  /** Delivery limit after which the queue drops a message; undefined if it has none. Looked up once. */
  #deliveryLimit(): Promise<number | undefined> {
    this.#deliveryLimitLookup ??= this.#findDeliveryLimit().catch((error: unknown) => {
      this.#deliveryLimitLookup = undefined;
      throw asConnectionError(error);
    });
    return this.#deliveryLimitLookup;
  }

  async #findDeliveryLimit(): Promise<number | undefined> {
    const { clock, name, deliveryLimit } = this.#fields;
    if (deliveryLimit !== undefined) return deliveryLimit;
    const model = await this.#ready();
    const { version } = model.connection.serverProperties;
    if (Number.parseInt(version) < 4) return undefined;
    // AMQP does not report queue arguments. Redeclaring a queue with equal arguments changes nothing;
    // RabbitMQ refuses different arguments and closes the channel, which is therefore not shared.
    const channel = await brokerRpc(clock, () => model.createChannel());
    channel.on('error', () => {});
    try {
      await brokerRpc(clock, () => declareDeadLetters(channel, name));
      await brokerRpc(clock, () => channel.close());
      return undefined;
    } catch (error) {
      const isDeclaredElsewhere = error instanceof StorkConfigError;
      if (isDeclaredElsewhere || replyCodeOf(error) === replyCodes.accessRefused)
        return brokerDefaultDeliveryLimit;
      throw error;
    }
  }

  async #openChannel(singleMessagePrefetch: boolean): Promise<ScanChannel> {
    const { clock, name } = this.#fields;
    const model = await this.#ready();
    try {
      return await ScanChannel.open({ model, clock, queue: name, singleMessagePrefetch });
    } catch (error) {
      throw asConnectionError(error);
    }
  }

  async #findQueue(): Promise<Replies.AssertQueue> {
    const found = await this.#find(this.name);
    if (found === undefined) throw new StorkConfigError(`there is no queue "${this.name}" of dead letters`);
    return found;
  }

  /** Uses a channel of its own, because RabbitMQ closes the channel when the queue does not exist. */
  async #find(queue: string): Promise<Replies.AssertQueue | undefined> {
    const { clock } = this.#fields;
    const model = await this.#ready();
    try {
      const channel = await brokerRpc(clock, () => model.createChannel());
      channel.on('error', () => {});
      const found = await brokerRpc(clock, () => channel.checkQueue(queue));
      await brokerRpc(clock, () => channel.close());
      return found;
    } catch (error) {
      if (replyCodeOf(error) === replyCodes.notFound) return undefined;
      if (isAuthError(error) || replyCodeOf(error) === replyCodes.resourceLocked)
        throw new StorkConfigError(`the queue "${queue}": ${messageOf(error)}`, { cause: error });
      throw asConnectionError(error);
    }
  }

  #ready(): Promise<ChannelModel> {
    const { connection, clock } = this.#fields;
    return brokerRpc(clock, () => connection.ready(), connectTimeoutMs);
  }
}

function asConnectionError(error: unknown): Error {
  return isStorkError(error) ? error : new ConnectionLostError(messageOf(error), { cause: error });
}
