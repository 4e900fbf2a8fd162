import type { ChannelModel, ConfirmChannel, ConsumeMessage, Options } from 'amqplib';
import { sleep, type StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import {
  ConnectionLostError,
  messageOf,
  NoRouteError,
  PublishRejectedError,
} from '../../core/runtime/errors.js';
import { brokerReply } from '../connection/broker-reply.js';
import { unwritable } from '../publish/publisher.js';

/** Letters that a first consumer gets at once; each further one gets twice as many, as far as their bodies let it. */
const firstWindow = 200;
/** What AMQP can say. */
const widestWindow = 65_535;
/** Bodies that wait here to be looked at. */
const maxWaitingBytes = 64 * 1024 * 1024;
/** The broker gives back in the order of their names what up to 32 consumers of a queue hold; of more, in any order. */
const maxBoundedConsumers = 24;
/** So long after the last letter the broker is asked whether there are more. */
const idleMs = 1_000;
/** So often it may say that there are more, and give none. */
const maxIdle = 10;
const publishTimeoutMs = 30_000;
/** What is given back lies in the queue a moment later, on a busy broker seconds later. */
const returnLimitMs = 4_000;
/** Where others consume, it may be theirs by then. */
const sharedReturnLimitMs = 1_000;
const closeTimeoutMs = 5_000;

export interface ScanChannelFields {
  readonly model: ChannelModel;
  readonly queue: string;
  /** Begins with one letter: each that is held is given back, and its queue may count that. */
  readonly isCautious: boolean;
  readonly clock: StorkClock;
}

/** A consumer of one window. What it holds and has been looked at is `kept`: it stays until the channel ends. */
interface Window {
  readonly tag: string;
  readonly size: number;
  held: number;
  kept: number;
}

interface Pending {
  isReturned: boolean;
}

/**
 * Reads a queue on one channel, from its head, and settles only what is done with. The rest returns when the channel ends, in its
 * order: the next consumer begins when the one before keeps all of its window and gets nothing more, so what they hold lies one after
 * the other.
 */
export class ScanChannel {
  readonly #channel: ConfirmChannel;
  readonly #fields: ScanChannelFields;
  /** What waits to be looked at begins at `#nextAt`. */
  #arrived: (ConsumeMessage | undefined)[] = [];
  #nextAt = 0;
  readonly #unconfirmed = new Set<Pending>();
  /** Who waits for the broker's answer, and is told when the channel is gone. */
  readonly #asking = new Set<(loss: Error) => void>();
  #loss: Error | undefined;
  #changed = withResolvers<void>();
  #window: Window | undefined;
  #windows = 0;
  /** Delivered and not settled. */
  #held = 0;
  #deadLetters = 0;
  #bytes = 0;
  /** Ends when the broker has what was acknowledged in this turn. */
  #taken: Promise<void> | undefined;

  static async open(fields: ScanChannelFields): Promise<ScanChannel> {
    const channel = await brokerReply(fields.clock, () => fields.model.createConfirmChannel());
    return new ScanChannel(channel, fields);
  }

  private constructor(channel: ConfirmChannel, fields: ScanChannelFields) {
    this.#channel = channel;
    this.#fields = fields;
    let cause: unknown = 'the connection was lost';
    const explain = (error: unknown): void => {
      cause = error;
    };
    channel.on('error', explain);
    // What breaks the connection is not told to its channels.
    fields.model.on('error', explain);
    // Before the client's own listener, which fails the confirmations: why must be known by then.
    channel.prependListener('close', () => {
      fields.model.off('error', explain);
      this.#lose(lossOf(fields.queue, cause));
    });
    // Without a mark of which one it was. All go to one place: none of them counts as sent.
    channel.on('return', () => {
      for (const pending of this.#unconfirmed) pending.isReturned = true;
    });
  }

  /** Why nothing can be done on the channel any more. */
  get loss(): Error | undefined {
    return this.#loss;
  }

  /** The next letter; undefined where the broker has no more to give, e.g. because others hold them. */
  async next(): Promise<ConsumeMessage | undefined> {
    for (let idle = 0; ;) {
      if (this.#loss !== undefined) throw this.#loss;
      const message = this.#takeArrived();
      if (message !== undefined) return message;
      const window = this.#window;
      if (window === undefined || window.kept === window.size) await this.#openWindow();
      else if (await this.#hasChanged()) idle = 0;
      // What its consumer has in hand is not settled yet: nothing more can come.
      else if (window.held === window.size) continue;
      else if (await this.#isExhausted()) return undefined;
      else if (++idle === maxIdle) throw new ConnectionLostError(`${this.#fields.queue}: ${silence}`);
    }
  }

  /** Leaves it unsettled. */
  keep(message: ConsumeMessage): void {
    if (message.fields.consumerTag !== this.#window?.tag) return;
    this.#window.kept++;
    this.#tellChange();
  }

  /** Resolves when the broker has confirmed it, and something was there to take it. */
  async publish(queue: string, body: Buffer, options: Options.Publish): Promise<void> {
    const pending: Pending = { isReturned: false };
    try {
      await this.#brokerReply(() => this.#send(queue, body, options, pending), publishTimeoutMs);
    } catch (error) {
      // Whether the broker has it is not known: nothing more may be done on this channel.
      if (error instanceof ConnectionLostError) this.#lose(error);
      throw error;
    } finally {
      this.#unconfirmed.delete(pending);
    }
    if (pending.isReturned) throw new NoRouteError(`there is no queue "${queue}"`);
  }

  /** Writes it at the end of its queue, as it is, where its deliveries count from none. Nothing more is given then: that would be returned too. */
  async renew(message: ConsumeMessage): Promise<void> {
    const { tag } = this.#window!;
    await this.#brokerReply(() => this.#channel.cancel(tag));
    const { content, properties } = message;
    const { 'x-delivery-count': _, ...headers } = properties.headers ?? {};
    // Whose it was, only that user may write.
    const { userId: __, ...kept } = properties as Options.Publish;
    const options = { ...kept, headers, mandatory: true };
    await this.publish(this.#fields.queue, content, options);
    await this.ack(message);
  }

  #send(queue: string, body: Buffer, options: Options.Publish, pending: Pending): Promise<void> {
    return new Promise((resolve, reject) => {
      const confirmed = (error: unknown): void => {
        if (error === null || error === undefined) resolve();
        else
          reject(this.#loss ?? new PublishRejectedError(`the queue "${queue}" refused it; it may be full`));
      };
      try {
        this.#channel.publish('', queue, body, options, confirmed);
        this.#unconfirmed.add(pending);
      } catch (error) {
        reject(this.#loss ?? unwritable(error));
      }
    });
  }

  /** Resolves when the broker has taken it: an acknowledgement has no answer, that to a question asked behind it comes after it. */
  async ack(message: ConsumeMessage): Promise<void> {
    if (this.#loss !== undefined) throw this.#loss;
    this.#channel.ack(message);
    this.#held--;
    if (message.fields.consumerTag === this.#window?.tag) this.#window.held--;
    this.#tellChange();
    this.#taken ??= new Promise(setImmediate).then(async () => {
      this.#taken = undefined;
      await this.#ask();
    });
    await this.#taken;
  }

  /** Resolves to true when what was held lies in the queue again; false where that takes too long, or belongs to somebody else. Never rejects. */
  async close(): Promise<boolean> {
    let isBack = false;
    const givenBack = this.#giveBack().then(
      (all) => {
        isBack = all;
      },
      () => {},
    );
    await settlesWithin(this.#fields.clock, givenBack, closeTimeoutMs);
    return isBack;
  }

  async #giveBack(): Promise<boolean> {
    const { model, queue, clock } = this.#fields;
    if (this.#loss !== undefined) return false;
    if (this.#window !== undefined) await this.#channel.cancel(this.#window.tag);
    const { messageCount, consumerCount } = await this.#channel.checkQueue(queue);
    // What others consume need not come back.
    const limitMs = consumerCount > this.#windows ? sharedReturnLimitMs : returnLimitMs;
    await this.#channel.close();
    const channel = await model.createChannel();
    channel.on('error', () => {});
    const until = clock.now() + limitMs;
    let isBack = false;
    while (!isBack && clock.now() < until) {
      isBack = (await channel.checkQueue(queue)).messageCount >= messageCount + this.#held;
      if (!isBack) await sleep(clock, 5);
    }
    await channel.close();
    return isBack;
  }

  async #isExhausted(): Promise<boolean> {
    const { messageCount } = await this.#ask();
    // An answer can overtake letters that were given before it, a second one cannot.
    await this.#ask();
    return messageCount === 0 && this.#nextAt === this.#arrived.length;
  }

  #takeArrived(): ConsumeMessage | undefined {
    const message = this.#arrived[this.#nextAt];
    if (message === undefined) return undefined;
    this.#arrived[this.#nextAt++] = undefined;
    if (this.#nextAt === this.#arrived.length) {
      this.#arrived = [];
      this.#nextAt = 0;
    }
    return message;
  }

  async #openWindow(): Promise<void> {
    const size = this.#nextSize();
    await this.#brokerReply(() => this.#channel.prefetch(size));
    const window = { tag: `letters-${String(this.#windows++).padStart(6, '0')}`, size, held: 0, kept: 0 };
    this.#window = window;
    const take = (message: ConsumeMessage | null): void => this.#take(message, window);
    await this.#brokerReply(() =>
      this.#channel.consume(this.#fields.queue, take, { consumerTag: window.tag }),
    );
  }

  #nextSize(): number {
    if (this.#window === undefined) return this.#fields.isCautious ? 1 : firstWindow;
    const meanBytes = Math.max(1, this.#bytes / this.#deadLetters);
    const fitting = Math.max(firstWindow, Math.floor(maxWaitingBytes / meanBytes));
    const size =
      this.#windows < maxBoundedConsumers ? Math.min(this.#window.size * 2, fitting) : widestWindow;
    return Math.min(size, widestWindow);
  }

  #take(message: ConsumeMessage | null, window: Window): void {
    if (message === null)
      return this.#lose(new ConnectionLostError(`the queue "${this.#fields.queue}" was deleted`));
    this.#arrived.push(message);
    this.#held++;
    window.held++;
    this.#deadLetters++;
    this.#bytes += message.content.length;
    this.#tellChange();
  }

  #ask(): Promise<{ readonly messageCount: number }> {
    return this.#brokerReply(() => this.#channel.checkQueue(this.#fields.queue));
  }

  async #brokerReply<T>(ask: () => PromiseLike<T>, limitMs?: number): Promise<T> {
    if (this.#loss !== undefined) throw this.#loss;
    // One for each question: raced against one for all, each answer would stay in memory for as long as the channel lives.
    const gone = withResolvers<never>();
    gone.promise.catch(() => {});
    this.#asking.add(gone.reject);
    try {
      return await brokerReply(this.#fields.clock, () => Promise.race([ask(), gone.promise]), limitMs);
    } finally {
      this.#asking.delete(gone.reject);
    }
  }

  /** False where nothing has happened for a while. */
  #hasChanged(): Promise<boolean> {
    return settlesWithin(this.#fields.clock, this.#changed.promise, idleMs);
  }

  #tellChange(): void {
    this.#changed.resolve();
    this.#changed = withResolvers();
  }

  #lose(error: Error): void {
    this.#loss ??= error;
    for (const tell of this.#asking) tell(this.#loss);
    this.#tellChange();
  }
}

const silence = 'there are letters, and the broker gives none; does a single active consumer read them?';

/** What the client cannot decode breaks the connection: it would come first each time. */
function lossOf(queue: string, cause: unknown): ConnectionLostError {
  const said = messageOf(cause);
  if (!(cause instanceof RangeError) && !(cause instanceof TypeError))
    return new ConnectionLostError(`${queue}: ${said}`, { cause });
  const advice =
    'take it away by the management UI (Get messages, ack mode "Automatic ack") or another client, then begin again';
  return new ConnectionLostError(
    `${queue}: a letter has headers that cannot be decoded (${said}); ${advice}`,
    {
      cause,
    },
  );
}
