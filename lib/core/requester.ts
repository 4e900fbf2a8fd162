import { randomUUID } from 'node:crypto';
import type { Clock } from './clock.js';
import type { Codecs } from './codec.js';
import type { Counters } from './counters.js';
import type { Driver, ReplyInbox } from './driver.js';
import {
  ClientClosedError,
  messageOf,
  RemoteError,
  remoteCodes,
  StorkError,
  type ErrorEnvelope,
} from './errors.js';
import { buildMessage, type MessageOptions, type OutboundScope } from './outbound.js';
import { PendingRequests } from './pending-requests.js';
import type { InboundReply } from './reply.js';

/** Whoever listens to the answer of one request. After `complete` or `error` nothing more comes. */
export interface ReplyObserver {
  next(value: unknown): void;
  complete(): void;
  error(error: Error): void;
}

const defaultTimeoutMs = 30_000;

/** The caller's side of request and reply. */
export class Requester {
  readonly #driver: Driver;
  readonly #codecs: Codecs;
  readonly #scope: OutboundScope;
  readonly #pending: PendingRequests;
  #inbox: Promise<ReplyInbox> | undefined;
  #closed: ClientClosedError | undefined;

  constructor(
    driver: Driver,
    scope: OutboundScope & { readonly clock: Clock },
    maxPending: number,
    counters: Counters,
  ) {
    this.#driver = driver;
    this.#codecs = scope.codecs;
    this.#scope = scope;
    this.#pending = new PendingRequests(maxPending, scope.clock, counters);
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** Sends a request; everything that happens to it, a refusal included, is told to the observer. Returns how to give it up. */
  request(pattern: string, data: unknown, options: MessageOptions, observer: ReplyObserver): () => void {
    const id = options.correlationId ?? randomUUID();
    const { signal } = options;
    let over = false;
    const end = (): boolean => {
      if (over) return false;
      over = true;
      signal?.removeEventListener('abort', abort);
      return true;
    };
    const giveUp = (): void => {
      if (end()) this.#pending.forget(id, waiter);
    };
    const abort = (): void => {
      giveUp();
      observer.error(abortReason(signal!));
    };
    const waiter = {
      reply: (reply: InboundReply): void => this.#tell(reply, observer, end, giveUp),
      fail: (error: Error): void => {
        if (end()) observer.error(error);
      },
    };
    if (signal?.aborted) {
      end();
      observer.error(abortReason(signal));
    } else {
      signal?.addEventListener('abort', abort, { once: true });
      void this.#send(id, pattern, data, options, waiter, () => !over);
    }
    return giveUp;
  }

  /** Rejects whatever waits, and every later request. */
  close(error: ClientClosedError): void {
    this.#closed ??= error;
    this.#pending.failAll(error);
  }

  async #send(
    id: string,
    pattern: string,
    data: unknown,
    options: MessageOptions,
    waiter: { reply(reply: InboundReply): void; fail(error: Error): void },
    wanted: () => boolean,
  ): Promise<void> {
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    try {
      if (this.#closed !== undefined) throw this.#closed;
      const message = buildMessage(pattern, data, options, this.#scope, { id, timeoutMs });
      const describe = (): string =>
        `no reply to ${JSON.stringify(pattern)} on transport ${JSON.stringify(this.#scope.transport)} within ${timeoutMs} ms`;
      // Registered before the bytes leave: the answer may be here before the broker's confirmation of the request.
      this.#pending.register(id, waiter, timeoutMs, describe);
      const inbox = await this.#openInbox();
      if (wanted()) await this.#driver.publish({ ...message, replyTo: inbox.address });
    } catch (error) {
      this.#pending.forget(id, waiter);
      waiter.fail(
        error instanceof Error ? error : new StorkError(remoteCodes.handlerFailed, messageOf(error)),
      );
    }
  }

  #openInbox(): Promise<ReplyInbox> {
    this.#inbox ??= this.#driver
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

  #tell(reply: InboundReply, observer: ReplyObserver, end: () => boolean, giveUp: () => void): void {
    if (reply.kind === 'end') {
      if (end()) observer.complete();
      return;
    }
    if (reply.kind === 'error') {
      if (end()) observer.error(new RemoteError(readEnvelope(reply)));
      return;
    }
    const decoded = this.#codecs.decode(reply.body, reply.contentType);
    if (!decoded.ok) {
      const message = `the reply cannot be decoded: ${decoded.error.message}`;
      const { name } = decoded.error;
      giveUp();
      return observer.error(
        new RemoteError({ name, message, code: remoteCodes.undecodable, retryable: false }),
      );
    }
    if (reply.kind === 'item') return observer.next(decoded.value);
    if (!end()) return;
    observer.next(decoded.value);
    observer.complete();
  }
}

function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error
    ? signal.reason
    : new Error('the request was aborted', { cause: signal.reason });
}

/** Total: a peer may send anything as an error. */
function readEnvelope(reply: InboundReply): ErrorEnvelope {
  const text = (field: unknown, otherwise: string): string => (typeof field === 'string' ? field : otherwise);
  let fields: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse((reply.body ?? '').toString());
    fields =
      typeof parsed === 'object' && parsed !== null
        ? (parsed as Record<string, unknown>)
        : { message: parsed };
  } catch {
    fields = { message: (reply.body ?? '').toString().slice(0, 1_000) };
  }
  return {
    name: text(fields['name'], 'Error'),
    message: text(fields['message'], 'the handler failed'),
    code: text(fields['code'], remoteCodes.handlerFailed),
    details: fields['details'],
    retryable: fields['retryable'] === true,
  };
}
