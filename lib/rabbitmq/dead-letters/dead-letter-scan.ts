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
import type { ScanChannel } from './scan-channel.js';
import { returnsLeft, tooFewReturns } from './delivery-limit.js';
import { republishOptions, inboundMessage } from '../publish/messages.js';

/** What is on its way when a pass breaks off is waited for so long. */
const breakOffTimeoutMs = 5_000;

export interface DeadLetterScanFields extends ScanOptions {
  /** Queue in which they lie. */
  readonly store: string;
  /** Queue that replayed ones go back to. */
  readonly source: string;
  /** Letters that lie there when it begins. */
  readonly total: number;
  /** How often the box gives a letter back before it drops it; undefined where it does not. */
  readonly returnLimit: number | undefined;
  readonly visitor: DeadLetterVisitor;
  readonly keyHeader: string;
  readonly clock: StorkClock;
  /** A channel may hold letters for so long; then a new one goes on. */
  readonly maxHoldMs: number;
  readonly openReader: () => Promise<ScanChannel>;
}

type Change = Exclude<DeadLetterAction, 'keep' | 'stop'>;

/** Once over the letters of a queue, on as many channels, one after another, as the time that each may hold them needs. */
export class DeadLetterScan {
  readonly #fields: DeadLetterScanFields;
  /** Letters that lay there when it began and have not been looked at. */
  #left: number;
  /** Those that stay, by id: a further channel meets them again. */
  readonly #kept = new Map<string, number>();
  /** Verdicts that are being carried out. None of them rejects. */
  readonly #inFlight = new Set<Promise<void>>();
  #failure: unknown;
  /**
   * The visitor has seen enough. The rest is held all the same: of letters that were given back before, the broker puts those of a look behind
   * the others, so that only a look at all of them leaves their order.
   */
  #isEnough = false;

  constructor(fields: DeadLetterScanFields) {
    this.#fields = fields;
    this.#left = fields.total;
  }

  async run(): Promise<void> {
    const { signal, openReader, store } = this.#fields;
    while (this.#left > 0) {
      signal.throwIfAborted();
      const reader = await withTimeout(openReader(), { signal });
      let isBack = false;
      try {
        await this.#read(reader);
        await this.#settleAll();
      } catch (error) {
        await this.#settleSoon();
        throw signal.aborted ? signal.reason : (reader.loss ?? error);
      } finally {
        isBack = await reader.close();
      }
      // A further channel would meet an empty queue, and take that for its end.
      if (this.#left > 0 && !isBack) throw new ConnectionLostError(`${store}: ${notBack}`);
    }
  }

  async #read(reader: ScanChannel): Promise<void> {
    const { clock, maxHoldMs, signal, window, store, keyHeader } = this.#fields;
    const until = clock.now() + maxHoldMs;
    const known = new Map(this.#kept);
    while (this.#left > 0 && clock.now() < until) {
      signal.throwIfAborted();
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#inFlight.size >= window) {
        await withTimeout(Promise.race(this.#inFlight), { signal });
        continue;
      }
      const message = await withTimeout(reader.next(), { signal });
      if (message === undefined) return this.#stop();
      const deadLetter = readQueueDeadLetter(inboundMessage(message, store, keyHeader));
      if (take(known, deadLetter.id)) reader.keep(message);
      else await this.#visit(deadLetter, message, reader);
    }
  }

  async #visit(deadLetter: StoredDeadLetter, message: ConsumeMessage, reader: ScanChannel): Promise<void> {
    const { visitor, signal } = this.#fields;
    const verdict = this.#isEnough
      ? 'keep'
      : await withTimeout(Promise.resolve(visitor.decide(deadLetter)), { signal });
    signal.throwIfAborted();
    this.#left--;
    this.#isEnough ||= verdict === 'stop';
    if (verdict === 'stop' || verdict === 'keep') {
      await this.#refuseLastReturns(deadLetter, message, reader);
      return this.#keep(deadLetter, message, reader);
    }
    const change = this.#carryOut(verdict, deadLetter, message, reader)
      .catch((error: unknown) => {
        this.#failure = error;
      })
      .finally(() => this.#inFlight.delete(change));
    this.#inFlight.add(change);
  }

  /** What its queue would drop when it is given back is written anew first. */
  async #refuseLastReturns(
    { message: { headers } }: StoredDeadLetter,
    message: ConsumeMessage,
    reader: ScanChannel,
  ): Promise<void> {
    const { store, returnLimit } = this.#fields;
    if (returnLimit === undefined) return;
    const left = returnsLeft(headers, returnLimit);
    if (left === 'enough') return;
    if (left === 'last') await reader.renew(message);
    throw tooFewReturns(store, headers, returnLimit);
  }

  async #carryOut(
    change: Change,
    deadLetter: StoredDeadLetter,
    message: ConsumeMessage,
    reader: ScanChannel,
  ): Promise<void> {
    const { visitor } = this.#fields;
    try {
      if (change !== 'discard') await this.#replay(change.replay, message, reader);
    } catch (error) {
      // Whether it was replayed is not known.
      if (reader.loss !== undefined) throw error;
      this.#keep(deadLetter, message, reader);
      return visitor.settled(deadLetter, { skipped: error });
    }
    await reader.ack(message);
    visitor.settled(deadLetter, change === 'discard' ? 'discarded' : 'replayed');
  }

  async #replay(headers: MessageHeaders, message: ConsumeMessage, reader: ScanChannel): Promise<void> {
    const options = republishOptions(message, { to: 'replay', headers });
    await reader.publish(this.#fields.source, message.content, options);
  }

  #keep({ id }: StoredDeadLetter, message: ConsumeMessage, reader: ScanChannel): void {
    reader.keep(message);
    this.#kept.set(id, (this.#kept.get(id) ?? 0) + 1);
  }

  #stop(): void {
    this.#left = 0;
  }

  async #settleAll(): Promise<void> {
    await withTimeout(Promise.all(this.#inFlight), { signal: this.#fields.signal });
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** What was sent should be told, and not come twice. */
  async #settleSoon(): Promise<void> {
    await settlesWithin(this.#fields.clock, Promise.all(this.#inFlight), breakOffTimeoutMs);
  }
}

const notBack =
  'the broker has not given back in time what was looked at; what was done is done, begin again';

/** True where it was there. */
function take(counts: Map<string, number>, id: string): boolean {
  const count = counts.get(id) ?? 0;
  if (count > 1) counts.set(id, count - 1);
  else counts.delete(id);
  return count > 0;
}
