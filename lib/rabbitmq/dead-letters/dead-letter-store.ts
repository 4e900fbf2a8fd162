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
import { brokerReply } from '../connection/broker-reply.js';
import type { Connection } from '../connection/connection.js';
import { isRefusal, replyCodeOf, replyCodes } from '../connection/errors.js';
import { DeadLetterScan } from './dead-letter-scan.js';
import { ScanChannel } from './scan-channel.js';
import { limitOfRabbitMq4 } from './delivery-limit.js';
import { declareDeadLetters } from '../topology/topology.js';

const connectTimeoutMs = 10_000;
const closeTimeoutMs = 5_000;

export interface QueueDeadLettersFields {
  /** Queue in which they lie. */
  readonly name: string;
  /** Queue that replayed ones go back to. */
  readonly source: string;
  /** What somebody says of it who knows. */
  readonly deliveryLimit: number | undefined;
  /** The box's own. */
  readonly connection: Connection;
  readonly consumerTimeoutMs: number;
  readonly keyHeader: string;
  readonly clock: StorkClock;
  readonly closed: () => void;
}

/** Dead letters in a queue. A pass consumes them, and what it keeps returns in its order when its channel ends. */
export class QueueDeadLetters implements DeadLetterStore {
  readonly name: string;
  readonly source: string;
  readonly group = undefined;
  readonly defaultWindow = 1;
  readonly #fields: QueueDeadLettersFields;
  readonly #closing = new AbortController();
  readonly #passes = new Set<Promise<void>>();
  #limit: Promise<number | undefined> | undefined;

  constructor(fields: QueueDeadLettersFields) {
    this.#fields = fields;
    this.name = fields.name;
    this.source = fields.source;
  }

  /** Connects. Rejects where there is no such queue, and leaves nothing behind then. */
  async open(): Promise<void> {
    const patience = new AbortController();
    const cancel = this.#fields.clock.setTimer(connectTimeoutMs, () => patience.abort());
    try {
      await this.#fields.connection.open(patience.signal);
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
      `while somebody goes over "${this.name}" its letters are hidden from other readers, and each one's delivery count rises by one`,
    ];
    const limit = await this.#returnLimit();
    if (limit !== undefined)
      warnings.push(
        `"${this.name}" was not declared by this library: if it is a quorum queue, it may drop a letter at its delivery ${limit + 1}, and each look is one`,
      );
    if (store.consumerCount > 0)
      warnings.push(`"${this.name}" has ${store.consumerCount} other readers: what they hold is not seen`);
    if (source === undefined) warnings.push(`there is no queue "${this.source}": letters cannot be replayed`);
    else if (source.consumerCount === 0)
      warnings.push(`nobody consumes the queue "${this.source}": replayed letters wait`);
    return warnings;
  }

  async scan(visitor: DeadLetterVisitor, options: ScanOptions): Promise<void> {
    const pass = this.#pass(visitor, options);
    const ended = pass.catch(() => {});
    this.#passes.add(ended);
    await pass.finally(() => this.#passes.delete(ended));
  }

  async close(): Promise<void> {
    this.#closing.abort(new ClientClosedError(`the dead letters in "${this.name}" are closed`));
    await Promise.all(this.#passes);
    await this.#fields.connection.close(closeTimeoutMs);
    this.#fields.closed();
  }

  async #pass(visitor: DeadLetterVisitor, { window, signal }: ScanOptions): Promise<void> {
    const { name: store, source, clock, keyHeader, consumerTimeoutMs } = this.#fields;
    const ending = AbortSignal.any([signal, this.#closing.signal]);
    ending.throwIfAborted();
    const returnLimit = await withTimeout(this.#returnLimit(), { signal: ending });
    const pass = new DeadLetterScan({
      store,
      source,
      visitor,
      window,
      keyHeader,
      clock,
      signal: ending,
      total: await withTimeout(this.count(), { signal: ending }),
      returnLimit,
      maxHoldMs: consumerTimeoutMs / 2,
      openReader: () => this.#openReader(returnLimit !== undefined),
    });
    await pass.run();
  }

  /** How often the queue gives a letter back before it drops it; undefined where it does not. Asked once. */
  #returnLimit(): Promise<number | undefined> {
    this.#limit ??= this.#findLimit().catch((error: unknown) => {
      this.#limit = undefined;
      throw lostOr(error);
    });
    return this.#limit;
  }

  async #findLimit(): Promise<number | undefined> {
    const { clock, name, deliveryLimit } = this.#fields;
    if (deliveryLimit !== undefined) return deliveryLimit;
    const model = await this.#ready();
    const { version } = model.connection.serverProperties;
    if (Number.parseInt(version) < 4) return undefined;
    // To declare what is there as it is changes nothing; what is there otherwise is refused, with its channel.
    const channel = await brokerReply(clock, () => model.createChannel());
    channel.on('error', () => {});
    try {
      await brokerReply(clock, () => declareDeadLetters(channel, name));
      await brokerReply(clock, () => channel.close());
      return undefined;
    } catch (error) {
      const isOtherwise = error instanceof StorkConfigError;
      if (isOtherwise || replyCodeOf(error) === replyCodes.accessRefused) return limitOfRabbitMq4;
      throw error;
    }
  }

  async #openReader(isCautious: boolean): Promise<ScanChannel> {
    const { clock, name } = this.#fields;
    const model = await this.#ready();
    try {
      return await ScanChannel.open({ model, clock, queue: name, isCautious });
    } catch (error) {
      throw lostOr(error);
    }
  }

  async #findQueue(): Promise<Replies.AssertQueue> {
    const found = await this.#find(this.name);
    if (found === undefined)
      throw new StorkConfigError(`there is no queue "${this.name}", where dead letters were looked for`);
    return found;
  }

  /** Asked on a channel of its own, which a refusal ends. */
  async #find(queue: string): Promise<Replies.AssertQueue | undefined> {
    const { clock } = this.#fields;
    const model = await this.#ready();
    try {
      const channel = await brokerReply(clock, () => model.createChannel());
      channel.on('error', () => {});
      const found = await brokerReply(clock, () => channel.checkQueue(queue));
      await brokerReply(clock, () => channel.close());
      return found;
    } catch (error) {
      if (replyCodeOf(error) === replyCodes.notFound) return undefined;
      if (isRefusal(error) || replyCodeOf(error) === replyCodes.resourceLocked)
        throw new StorkConfigError(`the queue "${queue}": ${messageOf(error)}`, { cause: error });
      throw lostOr(error);
    }
  }

  #ready(): Promise<ChannelModel> {
    const { connection, clock } = this.#fields;
    return brokerReply(clock, () => connection.ready(), connectTimeoutMs);
  }
}

function lostOr(error: unknown): Error {
  return isStorkError(error) ? error : new ConnectionLostError(messageOf(error), { cause: error });
}
