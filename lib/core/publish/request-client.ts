import { randomUUID } from 'node:crypto';
import type { Counters } from '../runtime/counters.js';
import type { Driver, ReplyInbox } from '../port/driver.js';
import {
  ClientClosedError,
  messageOf,
  RemoteError,
  remoteCodes,
  StorkError,
  type ErrorEnvelope,
} from '../runtime/errors.js';
import type { Codecs } from '../message/codec.js';
import type { OutboundMessage, InboundReply } from '../port/message.js';
import { buildMessage, type MessageOptions, type OutboundScope } from './outgoing-message.js';
import { PendingRequests, type Waiter } from './pending-requests.js';

/** Whoever listens to the answer of one request. After `complete` or `error` nothing more comes. */
export interface ReplyObserver {
  next(value: unknown): void;
  complete(): void;
  error(error: Error): void;
}

export interface RequestClientFields {
  readonly driver: Driver;
  readonly outbound: OutboundScope;
  readonly maxPending: number;
  readonly counters: Counters;
  /** Resolves when messages can be published. */
  connect(): Promise<void>;
}

interface BuiltRequest {
  readonly message: OutboundMessage;
  readonly timeoutMs: number;
  /** What a time-out says. */
  readonly describe: () => string;
}

const defaultTimeoutMs = 30_000;

/** The caller's side of request and reply. */
export class RequestClient {
  readonly #fields: RequestClientFields;
  readonly #pending: PendingRequests;
  #inbox: Promise<ReplyInbox> | undefined;
  #closed: ClientClosedError | undefined;

  constructor(fields: RequestClientFields) {
    this.#fields = fields;
    this.#pending = new PendingRequests(fields.maxPending, fields.outbound.clock, fields.counters);
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** Sends a request; everything that happens to it, a refusal included, is told to the observer. Returns how to give it up. */
  request(pattern: string, data: unknown, options: MessageOptions, observer: ReplyObserver): () => void {
    const id = options.correlationId ?? randomUUID();
    const call = new Call(observer, this.#fields.outbound.codecs, options.signal, () =>
      this.#pending.forget(id, call),
    );
    if (!call.over) void this.#send(call, id, () => this.#build(pattern, data, options, id));
    return () => call.giveUp();
  }

  /** Rejects whatever waits, and every later request. */
  close(error: ClientClosedError): void {
    this.#closed ??= error;
    this.#pending.failAll(error);
  }

  #build(pattern: string, data: unknown, options: MessageOptions, id: string): BuiltRequest {
    const { outbound } = this.#fields;
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    const message = buildMessage(pattern, data, options, outbound, { id, timeoutMs });
    const describe = (): string => {
      const target = this.#fields.driver.describeTarget?.(message);
      const what = `no reply to ${JSON.stringify(pattern)} on transport ${JSON.stringify(outbound.transport)} within ${timeoutMs} ms`;
      return target === undefined ? what : `${what}; ${target}`;
    };
    return { message, timeoutMs, describe };
  }

  async #send(call: Call, id: string, build: () => BuiltRequest): Promise<void> {
    try {
      if (this.#closed !== undefined) throw this.#closed;
      const { message, timeoutMs, describe } = build();
      // Registered before anything is awaited: the time-out counts from now, and the answer may be here before the broker's confirmation.
      this.#pending.register(id, call, timeoutMs, describe);
      await this.#fields.connect();
      const inbox = await this.#openInbox();
      if (!call.over) await this.#fields.driver.publish({ ...message, replyTo: inbox.address });
    } catch (error) {
      this.#pending.forget(id, call);
      call.fail(error instanceof Error ? error : new StorkError(remoteCodes.handlerFailed, messageOf(error)));
    }
  }

  #openInbox(): Promise<ReplyInbox> {
    this.#inbox ??= this.#fields.driver
      .openReplies({
        onReply: (reply) => this.#pending.settle(reply),
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

/** One request that waits; after its end nothing more is told. */
class Call implements Waiter {
  readonly #observer: ReplyObserver;
  readonly #codecs: Codecs;
  readonly #signal: AbortSignal | undefined;
  readonly #forget: () => void;
  #over = false;

  constructor(observer: ReplyObserver, codecs: Codecs, signal: AbortSignal | undefined, forget: () => void) {
    this.#observer = observer;
    this.#codecs = codecs;
    this.#signal = signal;
    this.#forget = forget;
    if (signal?.aborted) this.fail(abortError(signal));
    else signal?.addEventListener('abort', this.#aborted, { once: true });
  }

  get over(): boolean {
    return this.#over;
  }

  giveUp(): void {
    if (this.#end()) this.#forget();
  }

  fail(error: Error): void {
    if (this.#end()) this.#observer.error(error);
  }

  reply(reply: InboundReply): void {
    if (reply.kind === 'error') return this.fail(new RemoteError(readEnvelope(reply, this.#codecs)));
    if (reply.kind === 'end') return this.#complete();
    const decoded = this.#codecs.decode(reply.body, reply.contentType);
    if (!decoded.ok) {
      this.#forget();
      const { name, message } = decoded.error;
      return this.fail(
        new RemoteError({ ...undecodable, name, message: `the reply cannot be decoded: ${message}` }),
      );
    }
    if (this.#over) return;
    this.#observer.next(decoded.value);
    if (reply.kind === 'value') this.#complete();
  }

  #complete(): void {
    if (this.#end()) this.#observer.complete();
  }

  readonly #aborted = (): void => {
    this.#forget();
    this.fail(abortError(this.#signal!));
  };

  #end(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#signal?.removeEventListener('abort', this.#aborted);
    return true;
  }
}

function abortError({ reason }: AbortSignal): Error {
  return reason instanceof Error ? reason : new Error('the request was aborted', { cause: reason });
}

const undecodable = { code: remoteCodes.undecodable, retryable: false };

/** Total: a peer may send anything as an error. */
function readEnvelope({ body }: InboundReply, codecs: Codecs): ErrorEnvelope {
  const text = (field: unknown, otherwise: string): string => (typeof field === 'string' ? field : otherwise);
  const decoded = codecs.decode(body, 'application/json');
  const said: unknown = decoded.ok ? decoded.value : (body ?? '').toString().slice(0, 1_000);
  const fields =
    typeof said === 'object' && said !== null ? (said as Record<string, unknown>) : { message: said };
  return {
    name: text(fields['name'], 'Error'),
    message: text(fields['message'], 'the handler failed'),
    code: text(fields['code'], remoteCodes.handlerFailed),
    details: fields['details'],
    retryable: fields['retryable'] === true,
  };
}
