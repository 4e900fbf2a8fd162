import { ClientProxy } from '@nestjs/microservices';
import { ClientClosedError } from '../core/errors.js';
import { noOptions } from '../core/outbound.js';
import { withResolvers } from '../core/promises.js';
import { StorkRecord } from './record-builder.js';
/**
 * Sends messages over one transport. `send()` and `emit()` behave as in Nest; `request()` and `publish()` add promises that
 * tell the truth: a reply or a named error, a broker's confirmation or a named error.
 *
 * `StorkClient<Contract>` checks patterns and data against a map of pattern → `{ request, reply }`.
 *
 * @publicApi
 */
export class StorkClient extends ClientProxy {
  #registry;
  #name;
  #closed = false;
  /** Made by `StorkModule`; inject it. */
  constructor(registry, name) {
    super();
    this.#registry = registry;
    this.#name = name;
  }
  /** Connects ahead of the first message, so that a wrong address is known now. */
  async connect() {
    this.#assertOpen();
    const transport = this.#registry.get(this.#name);
    this.#follow(transport.driver.state.changes);
    await transport.connect();
  }
  /** This client sends no more; the transport's connections end with the application. */
  close() {
    this.#closed = true;
  }
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's abstract signature
  unwrap() {
    return this.#registry.get(this.#name).driver;
  }
  /**
   * Sends a request and resolves with its reply; of a streamed reply with the last item, of an empty one with `undefined`.
   *
   * @param options `timeoutMs` is 30 000 unless given
   * @throws RemoteError where the handler failed, RequestTimeoutError, NoRouteError where nobody can ever answer, ConnectionLostError,
   * ClientClosedError, TooManyPendingError, StorkConfigError where the call itself is wrong
   */
  async request(pattern, data, options) {
    this.#assertOpen();
    const call = this.#withMetadata(pattern, data, options);
    const { promise, resolve, reject } = withResolvers();
    let last;
    this.#registry.get(this.#name).request(call.pattern, call.data, call.options, {
      next: (value) => {
        last = value;
      },
      complete: () => resolve(last),
      error: reject,
    });
    return promise;
  }
  publish(...args) {
    if (args.length === 2 && typeof args[1] === 'function' && typeof args[0] === 'object') {
      return this.#sendPacket(args[0], args[1]);
    }
    return this.#publishEvent(args[0], args[1], args[2]);
  }
  async dispatchEvent(packet) {
    const call = this.#ofPacket(packet);
    return this.#registry.get(this.#name).publish(call.pattern, call.data, call.options);
  }
  async #publishEvent(pattern, data, options) {
    this.#assertOpen();
    const call = this.#withMetadata(pattern, data, options);
    await this.#registry.get(this.#name).publish(call.pattern, call.data, call.options);
  }
  #sendPacket(packet, callback) {
    const call = this.#ofPacket(packet);
    return this.#registry.get(this.#name).request(call.pattern, call.data, call.options, {
      next: (response) => callback({ response }),
      complete: () => callback({ isDisposed: true }),
      error: (err) => callback({ err }),
    });
  }
  /** Runs the dispatch hook, as Nest's own `send()` and `emit()` have done already for theirs. */
  #withMetadata(pattern, data, options = noOptions) {
    const call = this.#ofPacket(this.createPacket(pattern, data));
    if (options === noOptions) return call;
    return { ...call, options: { ...call.options, ...options, ...mergedHeaders(call.options, options) } };
  }
  #ofPacket({ pattern, data, metadata }) {
    const isRecord = data instanceof StorkRecord;
    const options = isRecord ? data.options : noOptions;
    return {
      pattern: this.normalizePattern(pattern),
      data: isRecord ? data.data : data,
      options:
        metadata === undefined ? options : { ...options, headers: { ...metadata, ...options.headers } },
    };
  }
  #assertOpen() {
    if (!this.#closed) return;
    throw new ClientClosedError(`the client of the transport ${JSON.stringify(this.#name)} is closed`);
  }
  #isFollowing = false;
  #follow(changes) {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    changes.subscribe((state) => this._status$.next(state.value));
  }
}
/** What a dispatch hook or a record attached stays beside what the call says. */
function mergedHeaders(attached, said) {
  if (attached.headers === undefined && said.headers === undefined) return noOptions;
  return { headers: { ...attached.headers, ...said.headers } };
}
