import type { ConsumeMessage } from 'amqplib';
import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withTimeout } from '../../core/runtime/with-timeout.js';
import type {
  DeadLetterVisitor,
  ScanOptions,
  StoredDeadLetter,
  DeadLetterAction,
} from '../../core/port/dead-letter-store.js';
import { ConnectionLostError } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import { readQueueDeadLetter } from '../../driver-kit/queue/broker-dead-letter.js';
import { deadLetterQueue } from '../../driver-kit/queue/queue-topology.js';
import type { ScanChannel } from './scan-channel.js';
import { deliveriesLeft, deliveryLimitNearError } from './delivery-limit.js';
import { republishOptions, inboundMessage } from '../publish/messages.js';

/** How long an interrupted scan waits for its actions in flight. */
const abortTimeoutMs = 5_000;

export interface DeadLetterScanFields extends ScanOptions {
  /** The dead letter queue. */
  readonly queue: string;
  /** Target queue of replayed messages. */
  readonly source: string;
  /** Messages in the queue when the scan starts. */
  readonly total: number;
  /** Delivery limit of the queue, after which it drops a message; undefined if it has none. */
  readonly deliveryLimit: number | undefined;
  readonly visitor: DeadLetterVisitor;
  readonly keyHeader: string;
  readonly clock: StorkClock;
  /** How long one channel may hold unsettled messages; then the scan continues on a new channel. */
  readonly maxHoldMs: number;
  readonly openChannel: () => Promise<ScanChannel>;
}

/** Actions that remove a dead letter from its queue. */
type RemovingAction = Exclude<DeadLetterAction, 'keep' | 'stop'>;

/** Visits every message of a dead letter queue once, on several channels if their hold time requires it. */
export class DeadLetterScan {
  readonly #fields: DeadLetterScanFields;
  /** Messages of the initial total that were not visited yet. */
  #remaining: number;
  /** Kept dead letters by id, with their number: a further channel receives them again. */
  readonly #kept = new Map<string, number>();
  /** Actions in flight. None of them rejects. */
  readonly #inFlight = new Set<Promise<void>>();
  #failure: unknown;
  /**
   * The visitor returned `stop`. The scan still holds the rest: a quorum queue puts requeued messages
   * behind those that were requeued before, so that only a scan of all messages preserves their order.
   */
  #isStopped = false;

  constructor(fields: DeadLetterScanFields) {
    this.#fields = fields;
    this.#remaining = fields.total;
  }

  async run(): Promise<void> {
    const { signal, openChannel, queue } = this.#fields;
    while (this.#remaining > 0) {
      signal.throwIfAborted();
      const channel = await withTimeout(openChannel(), { signal });
      let isRequeued = false;
      try {
        await this.#read(channel);
        await this.#awaitActions();
      } catch (error) {
        await this.#awaitActionsAfterFailure();
        throw signal.aborted ? signal.reason : (channel.loss ?? error);
      } finally {
        isRequeued = await channel.close();
      }
      // Until its messages are requeued, the queue looks empty, which would end the scan on a new channel.
      if (this.#remaining > 0 && !isRequeued) throw new ConnectionLostError(`${queue}: ${notRequeued}`);
    }
  }

  async #read(channel: ScanChannel): Promise<void> {
    const { clock, maxHoldMs, signal, window, queue, source, keyHeader } = this.#fields;
    // Another dead letter queue may hold the dead letters of several sources.
    const onlySource = queue === deadLetterQueue(source) ? source : undefined;
    const until = clock.now() + maxHoldMs;
    const visited = new Map(this.#kept);
    while (this.#remaining > 0 && clock.now() < until) {
      signal.throwIfAborted();
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#inFlight.size >= window) {
        await withTimeout(Promise.race(this.#inFlight), { signal });
        continue;
      }
      const message = await withTimeout(channel.next(), { signal });
      if (message === undefined) {
        this.#remaining = 0;
        return;
      }
      const deadLetter = readQueueDeadLetter(inboundMessage(message, queue, keyHeader), onlySource);
      if (takeOne(visited, deadLetter.id)) channel.keep(message);
      else await this.#visit(deadLetter, message, channel);
    }
  }

  async #visit(deadLetter: StoredDeadLetter, message: ConsumeMessage, channel: ScanChannel): Promise<void> {
    const { visitor, signal } = this.#fields;
    const action = this.#isStopped
      ? 'keep'
      : await withTimeout(Promise.resolve(visitor.decide(deadLetter)), { signal });
    signal.throwIfAborted();
    this.#remaining--;
    this.#isStopped ||= action === 'stop';
    if (action === 'stop' || action === 'keep') {
      await this.#checkDeliveryLimit(deadLetter, message, channel);
      return this.#keep(deadLetter, message, channel);
    }
    const execution = this.#execute(action, deadLetter, message, channel)
      .catch((error: unknown) => {
        this.#failure = error;
      })
      .finally(() => this.#inFlight.delete(execution));
    this.#inFlight.add(execution);
  }

  /**
   * Fails the scan near the delivery limit. A message that the next return would drop is republished first.
   */
  async #checkDeliveryLimit(
    { message: { headers } }: StoredDeadLetter,
    message: ConsumeMessage,
    channel: ScanChannel,
  ): Promise<void> {
    const { queue, deliveryLimit } = this.#fields;
    if (deliveryLimit === undefined) return;
    const left = deliveriesLeft(headers, deliveryLimit);
    if (left === 'enough') return;
    if (left === 'last') await channel.resetDeliveryCount(message);
    throw deliveryLimitNearError(queue, headers, deliveryLimit);
  }

  async #execute(
    action: RemovingAction,
    deadLetter: StoredDeadLetter,
    message: ConsumeMessage,
    channel: ScanChannel,
  ): Promise<void> {
    const { visitor } = this.#fields;
    try {
      if (action !== 'discard') await this.#replay(action.replay, message, channel);
    } catch (error) {
      // After a loss of the channel it is unknown whether the message was replayed.
      if (channel.loss !== undefined) throw error;
      this.#keep(deadLetter, message, channel);
      return visitor.settled(deadLetter, { skipped: error });
    }
    await channel.ack(message);
    visitor.settled(deadLetter, action === 'discard' ? 'discarded' : 'replayed');
  }

  async #replay(headers: MessageHeaders, message: ConsumeMessage, channel: ScanChannel): Promise<void> {
    const options = republishOptions(message, { to: 'replay', headers });
    await channel.publish(this.#fields.source, message.content, options);
  }

  #keep({ id }: StoredDeadLetter, message: ConsumeMessage, channel: ScanChannel): void {
    channel.keep(message);
    this.#kept.set(id, (this.#kept.get(id) ?? 0) + 1);
  }

  async #awaitActions(): Promise<void> {
    await withTimeout(Promise.all(this.#inFlight), { signal: this.#fields.signal });
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Lets actions in flight finish, within a time limit: the next scan would replay a replayed message
   * without an ack again.
   */
  async #awaitActionsAfterFailure(): Promise<void> {
    await settlesWithin(this.#fields.clock, Promise.all(this.#inFlight), abortTimeoutMs);
  }
}

const notRequeued =
  'the broker did not requeue the browsed messages in time; completed actions are final, start the command again';

/** Decrements the count of `id`; false if it is zero. */
function takeOne(counts: Map<string, number>, id: string): boolean {
  const count = counts.get(id) ?? 0;
  if (count > 1) counts.set(id, count - 1);
  else counts.delete(id);
  return count > 0;
}
