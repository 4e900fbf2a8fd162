import { randomUUID } from 'node:crypto';
import { ClientClosedError, messageOf, RemoteError, remoteCodes, StorkError } from './errors.js';
import { buildMessage } from './outbound.js';
import { PendingRequests } from './pending-requests.js';
const defaultTimeoutMs = 30_000;
/** The caller's side of request and reply. */
export class Requester {
  #fields;
  #pending;
  #inbox;
  #closed;
  constructor(fields) {
    this.#fields = fields;
    this.#pending = new PendingRequests(fields.maxPending, fields.outbound.clock, fields.counters);
  }
  get pending() {
    return this.#pending.size;
  }
  /** Sends a request; everything that happens to it, a refusal included, is told to the observer. Returns how to give it up. */
  request(pattern, data, options, observer) {
    const id = options.correlationId ?? randomUUID();
    const call = new Call(observer, this.#fields.outbound.codecs, options.signal, () =>
      this.#pending.forget(id, call),
    );
    if (!call.over) void this.#send(call, id, () => this.#build(pattern, data, options, id));
    return () => call.giveUp();
  }
  /** Rejects whatever waits, and every later request. */
  close(error) {
    this.#closed ??= error;
    this.#pending.failAll(error);
  }
  #build(pattern, data, options, id) {
    const { outbound } = this.#fields;
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    const message = buildMessage(pattern, data, options, outbound, { id, timeoutMs });
    const describe = () =>
      `no reply to ${JSON.stringify(pattern)} on transport ${JSON.stringify(outbound.transport)} within ${timeoutMs} ms`;
    return { message, timeoutMs, describe };
  }
  async #send(call, id, build) {
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
  #openInbox() {
    this.#inbox ??= this.#fields.driver
      .openReplies({
        onReply: (reply) => this.#pending.settle(reply),
        onLost: (error) => this.#pending.failAll(error),
      })
      .catch((error) => {
        // The next request tries again.
        this.#inbox = undefined;
        throw error;
      });
    return this.#inbox;
  }
}
/** One request that waits; after its end nothing more is told. */
class Call {
  #observer;
  #codecs;
  #signal;
  #forget;
  #over = false;
  constructor(observer, codecs, signal, forget) {
    this.#observer = observer;
    this.#codecs = codecs;
    this.#signal = signal;
    this.#forget = forget;
    if (signal?.aborted) this.fail(abortError(signal));
    else signal?.addEventListener('abort', this.#aborted, { once: true });
  }
  get over() {
    return this.#over;
  }
  giveUp() {
    if (this.#end()) this.#forget();
  }
  fail(error) {
    if (this.#end()) this.#observer.error(error);
  }
  reply(reply) {
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
  #complete() {
    if (this.#end()) this.#observer.complete();
  }
  #aborted = () => {
    this.#forget();
    this.fail(abortError(this.#signal));
  };
  #end() {
    if (this.#over) return false;
    this.#over = true;
    this.#signal?.removeEventListener('abort', this.#aborted);
    return true;
  }
}
function abortError({ reason }) {
  return reason instanceof Error ? reason : new Error('the request was aborted', { cause: reason });
}
const undecodable = { code: remoteCodes.undecodable, retryable: false };
/** Total: a peer may send anything as an error. */
function readEnvelope({ body }, codecs) {
  const text = (field, otherwise) => (typeof field === 'string' ? field : otherwise);
  const decoded = codecs.decode(body, 'application/json');
  const said = decoded.ok ? decoded.value : (body ?? '').toString().slice(0, 1_000);
  const fields = typeof said === 'object' && said !== null ? said : { message: said };
  return {
    name: text(fields['name'], 'Error'),
    message: text(fields['message'], 'the handler failed'),
    code: text(fields['code'], remoteCodes.handlerFailed),
    details: fields['details'],
    retryable: fields['retryable'] === true,
  };
}
