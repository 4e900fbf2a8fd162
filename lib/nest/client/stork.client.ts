import { ClientProxy, type ReadPacket, type WritePacket } from '@nestjs/microservices';
import type { ConnectionState } from '../../core/port/connection-state.js';
import { enableCorrelationTracking } from '../../core/publish/correlation-context.js';
import { ClientClosedError } from '../../core/runtime/errors.js';
import { noOptions, type MessageOptions } from '../../core/publish/outgoing-message.js';
import { withResolvers } from '../../core/runtime/with-timeout.js';
import type { StorkTransport } from '../../core/stork-transport.js';
import { StorkRecord } from './record-builder.js';
import type { TransportRegistry } from '../bootstrap/transport-registry.js';

/** The client emits no events of its own; its `status` tells the connection's state. */
// oxlint-disable-next-line typescript/no-generated-empty-object-type -- the shape that Nest's ClientProxy uses for no events
type NoEvents = Record<never, never>;

/** Pattern → what is sent and what comes back. @publicApi */
export type StorkContract = Record<string, { readonly request: unknown; readonly reply?: unknown }>;

/** Any pattern with any data: what a client without a contract accepts. @publicApi */
// oxlint-disable-next-line typescript/no-explicit-any -- untyped use takes and gives anything, like Nest's own ClientProxy
export type AnyContract = Record<string, { readonly request: any; readonly reply?: any }>;

/** A pattern of Nest's that is not text, e.g. `{ cmd: 'sum' }`. @publicApi */
export type ObjectPattern = number | Readonly<Record<string, unknown>>;

type PatternOf<C> = AnyContract extends C ? string | ObjectPattern : keyof C & string;
type RequestOf<C, P> = P extends keyof C
  ? C[P] extends { readonly request: infer R }
    ? R
    : unknown
  : unknown;
type ReplyOf<C, P> = P extends keyof C ? (C[P] extends { readonly reply: infer R } ? R : void) : unknown;

/** What `request<T>()` without a contract and what a contract says are two overloads of one method. */
type Untyped<C> = AnyContract extends C ? unknown : never;

/**
 * Sends messages over one transport. `send()` and `emit()` behave as in Nest; `request()` and `publish()` add promises that
 * tell the truth: a reply or a named error, a broker's confirmation or a named error.
 *
 * `StorkClient<Contract>` checks patterns and data against a map of pattern → `{ request, reply }`.
 *
 * @publicApi
 */
export class StorkClient<Contract = AnyContract> extends ClientProxy<NoEvents, ConnectionState['value']> {
  readonly #registry: TransportRegistry;
  readonly #name: string;
  #closed = false;

  /** Made by `StorkModule`; inject it. */
  constructor(registry: TransportRegistry, name: string) {
    super();
    this.#registry = registry;
    this.#name = name;
  }

  /** Connects ahead of the first message, so that a wrong address is known now. */
  override async connect(): Promise<void> {
    this.#assertOpen();
    const transport = this.#registry.get(this.#name);
    this.#follow(transport.driver.state.changes);
    await transport.connect();
  }

  /** This client sends no more; the transport's connections end with the application. */
  override close(): void {
    this.#closed = true;
  }

  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's abstract signature
  override unwrap<T>(): T {
    return this.#registry.get(this.#name).driver as T;
  }

  /**
   * Sends a request and resolves with its reply; of a streamed reply with the last item, of an empty one with `undefined`.
   *
   * @param options `timeoutMs` is 30 000 unless given
   * @throws RemoteError where the handler failed, RequestTimeoutError, NoRouteError where nobody can ever answer, ConnectionLostError,
   * ClientClosedError, TooManyPendingError, StorkConfigError where the call itself is wrong
   */
  async request<T = never, P extends PatternOf<Contract> = PatternOf<Contract>>(
    pattern: P,
    data: RequestOf<Contract, P>,
    options?: MessageOptions,
  ): Promise<[T] extends [never] ? ReplyOf<Contract, P> : T & Untyped<Contract>> {
    this.#assertOpen();
    const call = this.#withMetadata(pattern, data, options);
    const { promise, resolve, reject } = withResolvers<unknown>();
    let last: unknown;
    this.#sending().request(call.pattern, call.data, call.options, {
      next: (value) => {
        last = value;
      },
      complete: () => resolve(last),
      error: reject,
    });
    return promise as Promise<[T] extends [never] ? ReplyOf<Contract, P> : T & Untyped<Contract>>;
  }

  /**
   * Sends an event; resolves when the broker has confirmed it and something is bound where it went. With `delayMs` it resolves when the
   * message is stored; whether anything takes it is known only when it is due.
   *
   * @throws NoRouteError, PublishRejectedError, PublishUnconfirmedError, ConnectionLostError, ClientClosedError, StorkConfigError
   */
  override publish<P extends PatternOf<Contract>>(
    pattern: P,
    data: RequestOf<Contract, P>,
    options?: MessageOptions,
  ): Promise<void>;
  /** What Nest's `send()` calls; not for applications. */
  override publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void;
  override publish(...args: readonly unknown[]): Promise<void> | (() => void) {
    if (args.length === 2 && typeof args[1] === 'function' && typeof args[0] === 'object') {
      return this.#sendPacket(args[0] as ReadPacket, args[1] as (packet: WritePacket) => void);
    }
    return this.#publishEvent(args[0], args[1], args[2] as MessageOptions | undefined);
  }

  protected override async dispatchEvent<T>(packet: ReadPacket): Promise<T> {
    const call = this.#ofPacket(packet);
    return this.#sending().publish(call.pattern, call.data, call.options) as Promise<T>;
  }

  async #publishEvent(pattern: unknown, data: unknown, options?: MessageOptions): Promise<void> {
    this.#assertOpen();
    const call = this.#withMetadata(pattern, data, options);
    await this.#sending().publish(call.pattern, call.data, call.options);
  }

  #sendPacket(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    const call = this.#ofPacket(packet);
    return this.#sending().request(call.pattern, call.data, call.options, {
      next: (response) => callback({ response }),
      complete: () => callback({ isDisposed: true }),
      error: (err) => callback({ err }),
    });
  }

  /** Whoever sends once may send from a handler: not every use of a client can be seen when handlers are bound. */
  #sending(): StorkTransport {
    enableCorrelationTracking();
    return this.#registry.get(this.#name);
  }

  /** Runs the dispatch hook, as Nest's own `send()` and `emit()` have done already for theirs. */
  #withMetadata(pattern: unknown, data: unknown, options: MessageOptions = noOptions): Call {
    const call = this.#ofPacket(this.createPacket(pattern, data));
    if (options === noOptions) return call;
    return { ...call, options: { ...call.options, ...options, ...mergedHeaders(call.options, options) } };
  }

  #ofPacket({ pattern, data, metadata }: ReadPacket): Call {
    const isRecord = data instanceof StorkRecord;
    const options = isRecord ? data.options : noOptions;
    return {
      pattern: this.normalizePattern(pattern as never),
      data: isRecord ? (data.data as unknown) : (data as unknown),
      options:
        metadata === undefined ? options : { ...options, headers: { ...metadata, ...options.headers } },
    };
  }

  #assertOpen(): void {
    if (!this.#closed) return;
    throw new ClientClosedError(`the client of the transport ${JSON.stringify(this.#name)} is closed`);
  }

  #isFollowing = false;
  #follow(changes: { subscribe(next: (state: ConnectionState) => void): unknown }): void {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    changes.subscribe((state) => this._status$.next(state.value));
  }
}

/** What a dispatch hook or a record attached stays beside what the call says. */
function mergedHeaders(attached: MessageOptions, said: MessageOptions): MessageOptions {
  if (attached.headers === undefined && said.headers === undefined) return noOptions;
  return { headers: { ...attached.headers, ...said.headers } };
}

interface Call {
  readonly pattern: string;
  readonly data: unknown;
  readonly options: MessageOptions;
}
