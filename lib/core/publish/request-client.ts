import { randomUUID } from 'node:crypto';
import type { Counters } from '../runtime/reporting.js';
import type { Driver, ReplyInbox } from '../port/driver.js';
import {
  ClientClosedError,
  messageOf,
  RemoteError,
  remoteCodes,
  StorkError,
  type ErrorEnvelope,
} from '../runtime/errors.js';
import { headerNames, readCount } from '../message/headers.js';
import { readJson, type Codecs, type Decoded } from '../message/codec.js';
import { andThen } from '../runtime/with-timeout.js';
import { outageOf } from '../port/connection-state.js';
import type { OutboundMessage, InboundReply } from '../port/message.js';
import { PublishCancellation } from '../port/publish-cancellation.js';
import { encodingHint } from './encoding-order.js';
import { buildMessage, isAbortSignal, type MessageOptions, type OutboundScope } from './outgoing-message.js';
import { PendingRequests, type ReplyReceiver } from './pending-requests.js';

/** Observes the reply to one request. After `complete` or `error` no more calls follow. */
export interface ReplyObserver {
  next(value: unknown): void;
  complete(): void;
  /** @param error the reason of an aborted signal may be any value */
  error(error: unknown): void;
}

export interface RequestClientSettings {
  readonly driver: Driver;
  readonly outbound: OutboundScope;
  readonly maxPending: number;
  readonly counters: Counters;
  /** Resolves when messages can be published. */
  connect(): Promise<void>;
}

interface BuiltRequest {
  readonly message: OutboundMessage | Promise<OutboundMessage>;
  readonly timeoutMs: number;
  /** Text of the time-out error. */
  readonly describe: () => string;
}

const defaultTimeoutMs = 30_000;

/** The client side of request and reply: sends requests and matches replies to them. */
export class RequestClient {
  readonly #settings: RequestClientSettings;
  readonly #pending: PendingRequests;
  #inbox: Promise<ReplyInbox> | undefined;
  #closed: ClientClosedError | undefined;

  constructor(settings: RequestClientSettings) {
    this.#settings = settings;
    this.#pending = new PendingRequests(settings.maxPending, settings.outbound.clock, settings.counters);
  }

  get pending(): number {
    return this.#pending.size;
  }

  /**
   * Sends a request. The observer receives the reply and every error, also that of an invalid option.
   *
   * @returns cancels the request
   */
  request(pattern: string, data: unknown, options: MessageOptions, observer: ReplyObserver): () => void {
    const id = options.requestId ?? randomUUID();
    const { codecs } = this.#settings.outbound;
    const unregister = (): void => this.#pending.cancel(id, pendingReply);
    const pendingReply = new PendingReply({ observer, codecs, pattern, signal: options.signal, unregister });
    if (!pendingReply.isSettled)
      void this.#send(pendingReply, id, () =>
        this.#build(pattern, data, options, { id, cancellation: pendingReply.cancellation }),
      );
    return () => pendingReply.cancel();
  }

  /** Fails all pending requests, and every later one. */
  close(error: ClientClosedError): void {
    this.#closed ??= error;
    this.#pending.failAll(error);
  }

  #build(
    pattern: string,
    data: unknown,
    options: MessageOptions,
    { id, cancellation }: { readonly id: string; readonly cancellation: PublishCancellation },
  ): BuiltRequest {
    const { outbound } = this.#settings;
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    const built = buildMessage(pattern, data, options, outbound, { id, timeoutMs });
    const message = outbound.order.inOrder(built, cancellation);
    const describe = (): string => {
      const { driver } = this.#settings;
      const outage = cancellation.isEncoding ? encodingHint : outageOf(driver.state.current);
      const why = outage ?? driver.describeTarget?.({ pattern, to: options.to });
      const timeout = `no reply to ${JSON.stringify(pattern)} on transport ${JSON.stringify(outbound.transport)} within ${timeoutMs} ms`;
      return why === undefined ? timeout : `${timeout}; ${why}`;
    };
    return { message, timeoutMs, describe };
  }

  async #send(pendingReply: PendingReply, id: string, build: () => BuiltRequest): Promise<void> {
    try {
      if (this.#closed !== undefined) throw this.#closed;
      const { message, timeoutMs, describe } = build();
      // Registered before the first await: the time-out counts from now, and the reply may arrive before
      // the broker's confirm.
      this.#pending.register(id, pendingReply, timeoutMs, describe);
      const encoded = message instanceof Promise ? await message : message;
      await this.#settings.connect();
      const inbox = await this.#openInbox();
      if (!pendingReply.isSettled)
        await this.#settings.driver.publish(
          { ...encoded, replyTo: inbox.address },
          pendingReply.cancellation,
        );
    } catch (error) {
      this.#pending.cancel(id, pendingReply);
      pendingReply.fail(
        error instanceof Error ? error : new StorkError(remoteCodes.handlerFailed, messageOf(error)),
      );
    }
  }

  #openInbox(): Promise<ReplyInbox> {
    this.#inbox ??= this.#settings.driver
      .openReplies({
        onReply: (reply) => this.#pending.handleReply(reply),
        onLost: (error) => this.#pending.failAll(error),
      })
      .catch((error: unknown) => {
        // The next request tries again.
        this.#inbox = undefined;
        throw error;
      });
    return this.#inbox;
  }
}

interface PendingReplyFields {
  readonly observer: ReplyObserver;
  readonly codecs: Codecs;
  readonly pattern: string;
  readonly signal: AbortSignal | undefined;
  readonly unregister: () => void;
}

/** One request that waits for its reply. Once it is settled, its observer is not called again. */
class PendingReply implements ReplyReceiver {
  /** A request that has failed is not sent any more. */
  readonly cancellation = new PublishCancellation();
  readonly #observer: ReplyObserver;
  readonly #codecs: Codecs;
  readonly #pattern: string;
  readonly #signal: AbortSignal | undefined;
  readonly #unregister: () => void;
  #isSettled = false;
  /** Number of the last item of a streamed reply. */
  #lastItem = 0;
  /** Settles when all replies so far have been decoded. Never rejects. */
  #decoding: Promise<void> | undefined;

  constructor({ observer, codecs, pattern, signal, unregister }: PendingReplyFields) {
    this.#observer = observer;
    this.#codecs = codecs;
    this.#pattern = pattern;
    // An invalid one is refused with the other options.
    this.#signal = isAbortSignal(signal) ? signal : undefined;
    this.#unregister = unregister;
    if (this.#signal?.aborted) this.fail(this.#signal.reason);
    else this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  cancel(): void {
    if (!this.#settle()) return;
    this.cancellation.cancel();
    this.#unregister();
  }

  fail(error: unknown): void {
    if (!this.#settle()) return;
    this.cancellation.cancel();
    this.#observer.error(error);
  }

  reply(reply: InboundReply): void {
    const received =
      this.#decoding === undefined ? this.#receive(reply) : this.#decoding.then(() => this.#receive(reply));
    if (received instanceof Promise) this.#decoding = received;
  }

  #receive(reply: InboundReply): void | Promise<void> {
    if (this.#isSettled || this.#isRepeated(reply)) return;
    if (reply.kind === 'error') return this.fail(new RemoteError(readEnvelope(reply)));
    if (reply.kind === 'end') return this.#complete();
    const decoded = this.#codecs.decode(reply, () => ({
      direction: 'inbound',
      pattern: this.#pattern,
      destination: undefined,
      headers: reply.headers,
    }));
    return andThen(decoded, (value) => this.#receiveDecoded(reply, value));
  }

  #receiveDecoded(reply: InboundReply, decoded: Decoded): void {
    if (!decoded.ok) {
      this.#unregister();
      const { name, message } = decoded.error;
      return this.fail(
        new RemoteError({ ...undecodable, name, message: `the reply cannot be decoded: ${message}` }),
      );
    }
    if (this.#isSettled) return;
    this.#observer.next(decoded.value);
    if (reply.kind === 'value') this.#complete();
  }

  /** The server sends an item again if its confirmation was lost. Other servers do not number their items. */
  #isRepeated({ kind, headers }: InboundReply): boolean {
    const item = kind === 'item' ? readCount(headers, headerNames.replyItem) : undefined;
    if (item === undefined) return false;
    if (item <= this.#lastItem) return true;
    this.#lastItem = item;
    return false;
  }

  #complete(): void {
    if (this.#settle()) this.#observer.complete();
  }

  readonly #onAbort = (): void => {
    this.#unregister();
    this.fail(this.#signal!.reason);
  };

  #settle(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }
}

const undecodable = { code: remoteCodes.undecodable, retryable: false };

/** Never throws: a peer may send anything as an error. */
function readEnvelope({ body }: InboundReply): ErrorEnvelope {
  const text = (field: unknown, fallback: string): string => (typeof field === 'string' ? field : fallback);
  const json = body === null ? null : readJson(body);
  const value = json === undefined ? body!.toString().slice(0, 1_000) : json;
  const settings =
    typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : { message: value };
  return {
    name: text(settings['name'], 'Error'),
    message: text(settings['message'], 'the handler failed'),
    code: text(settings['code'], remoteCodes.handlerFailed),
    ...(typeof settings['status'] === 'number' ? { status: settings['status'] } : {}),
    details: settings['details'],
    retryable: settings['retryable'] === true,
  };
}
