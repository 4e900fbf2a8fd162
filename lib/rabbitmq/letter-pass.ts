import type { ConsumeMessage } from 'amqplib';
import { endsWithin, type Clock } from '../core/clock.js';
import type { LetterVisitor, PassOptions, StoredLetter, Verdict } from '../core/dead-letters.js';
import { ConnectionLostError } from '../core/errors.js';
import type { Headers } from '../core/headers.js';
import { unlessAborted } from '../core/promises.js';
import { queueLetter } from '../core/queue-letters.js';
import type { LetterReader } from './letter-reader.js';
import { returnsLeft, tooFewReturns } from './return-limit.js';
import { copyOptions, inboundMessage } from './messages.js';

/** What is on its way when a pass breaks off is waited for so long. */
const breakOffTimeoutMs = 5_000;

export interface LetterPassFields extends PassOptions {
  /** Queue in which they lie. */
  readonly box: string;
  /** Queue that replayed ones go back to. */
  readonly source: string;
  /** Letters that lie there when it begins. */
  readonly total: number;
  /** How often the box gives a letter back before it drops it; undefined where it does not. */
  readonly returnLimit: number | undefined;
  readonly visitor: LetterVisitor;
  readonly keyHeader: string;
  readonly clock: Clock;
  /** A channel may hold letters for so long; then a new one goes on. */
  readonly maxHoldMs: number;
  readonly openReader: () => Promise<LetterReader>;
}

type Change = Exclude<Verdict, 'keep' | 'stop'>;

/** Once over the letters of a queue, on as many channels, one after another, as the time that each may hold them needs. */
export class LetterPass {
  readonly #fields: LetterPassFields;
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

  constructor(fields: LetterPassFields) {
    this.#fields = fields;
    this.#left = fields.total;
  }

  async run(): Promise<void> {
    const { signal, openReader, box } = this.#fields;
    while (this.#left > 0) {
      signal.throwIfAborted();
      const reader = await unlessAborted(openReader(), signal);
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
      if (this.#left > 0 && !isBack) throw new ConnectionLostError(`${box}: ${notBack}`);
    }
  }

  async #read(reader: LetterReader): Promise<void> {
    const { clock, maxHoldMs, signal, window, box, keyHeader } = this.#fields;
    const until = clock.now() + maxHoldMs;
    const known = new Map(this.#kept);
    while (this.#left > 0 && clock.now() < until) {
      signal.throwIfAborted();
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#inFlight.size >= window) {
        await unlessAborted(Promise.race(this.#inFlight), signal);
        continue;
      }
      const message = await unlessAborted(reader.next(), signal);
      if (message === undefined) return this.#stop();
      const letter = queueLetter(inboundMessage(message, box, keyHeader));
      if (take(known, letter.id)) reader.keep(message);
      else await this.#visit(letter, message, reader);
    }
  }

  async #visit(letter: StoredLetter, message: ConsumeMessage, reader: LetterReader): Promise<void> {
    const { visitor, signal } = this.#fields;
    const verdict = this.#isEnough
      ? 'keep'
      : await unlessAborted(Promise.resolve(visitor.visit(letter)), signal);
    signal.throwIfAborted();
    this.#left--;
    this.#isEnough ||= verdict === 'stop';
    if (verdict === 'stop' || verdict === 'keep') {
      await this.#refuseLastReturns(letter, message, reader);
      return this.#keep(letter, message, reader);
    }
    const change = this.#carryOut(verdict, letter, message, reader)
      .catch((error: unknown) => {
        this.#failure = error;
      })
      .finally(() => this.#inFlight.delete(change));
    this.#inFlight.add(change);
  }

  /** What its queue would drop when it is given back is written anew first. */
  async #refuseLastReturns(
    { message: { headers } }: StoredLetter,
    message: ConsumeMessage,
    reader: LetterReader,
  ): Promise<void> {
    const { box, returnLimit } = this.#fields;
    if (returnLimit === undefined) return;
    const left = returnsLeft(headers, returnLimit);
    if (left === 'enough') return;
    if (left === 'last') await reader.renew(message);
    throw tooFewReturns(box, headers, returnLimit);
  }

  async #carryOut(
    change: Change,
    letter: StoredLetter,
    message: ConsumeMessage,
    reader: LetterReader,
  ): Promise<void> {
    const { visitor } = this.#fields;
    try {
      if (change !== 'discard') await this.#replay(change.replay, message, reader);
    } catch (error) {
      // Whether it was replayed is not known.
      if (reader.loss !== undefined) throw error;
      this.#keep(letter, message, reader);
      return visitor.settled(letter, { kept: error });
    }
    await reader.ack(message);
    visitor.settled(letter, change === 'discard' ? 'discarded' : 'replayed');
  }

  async #replay(headers: Headers, message: ConsumeMessage, reader: LetterReader): Promise<void> {
    const options = copyOptions(message, { to: 'replay', headers });
    await reader.publish(this.#fields.source, message.content, options);
  }

  #keep({ id }: StoredLetter, message: ConsumeMessage, reader: LetterReader): void {
    reader.keep(message);
    this.#kept.set(id, (this.#kept.get(id) ?? 0) + 1);
  }

  #stop(): void {
    this.#left = 0;
  }

  async #settleAll(): Promise<void> {
    await unlessAborted(Promise.all(this.#inFlight), this.#fields.signal);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** What was sent should be told, and not come twice. */
  async #settleSoon(): Promise<void> {
    await endsWithin(this.#fields.clock, Promise.all(this.#inFlight), breakOffTimeoutMs);
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
