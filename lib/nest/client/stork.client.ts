import { Logger } from '@nestjs/common';
import { ClientProxy, type ReadPacket, type WritePacket } from '@nestjs/microservices';
import type { ConnectionState } from '../../core/port/connection-state.js';
import { from, Observable } from 'rxjs';
import { ClientClosedError, messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';
import { noOptions, type MessageOptions } from '../../core/publish/outgoing-message.js';
import { withResolvers } from '../../core/runtime/with-timeout.js';
import type { StorkTransport } from '../../core/stork-transport.js';
import { readKafkaMessage, readRmqRecord } from './nest-records.js';
import { isStorkRecord } from './record-builder.js';
import { ConnectionEvents, type StorkEvents } from '../bootstrap/connection-events.js';
import type { TransportRegistry } from '../bootstrap/transport-registry.js';
import { findPatternProblem } from '../validation/validate-pattern.js';

/**
 * A contract of a service: pattern → type of the data and of the reply. As the default of `StorkClient` it
 * allows any pattern with any data.
 *
 * @publicApi
 */
export type StorkContract = Record<string, { readonly request: unknown; readonly reply?: unknown }>;

/** A Nest pattern that is not a string, e.g. `{ cmd: 'sum' }`. @publicApi */
export type ObjectPattern = number | Readonly<Record<string, unknown>>;

type PatternOf<C> = StorkContract extends C ? string | ObjectPattern : keyof C & string;
type RequestOf<C, P> = P extends keyof C
  ? C[P] extends { readonly request: infer R }
    ? R
    : unknown
  : unknown;
type ReplyOf<C, P> = StorkContract extends C
  ? unknown
  : P extends keyof C
    ? C[P] extends { readonly reply: infer R }
      ? R
      : void
    : unknown;

/** Makes the type argument of `request<T>()` available only to clients without a contract. */
type Untyped<C> = StorkContract extends C ? unknown : never;

/**
 * Sends messages over one transport. `send()` and `emit()` behave as in Nest. `request()` resolves with
 * the reply and `publish()` with the broker's confirmation; both reject with a named error.
 *
 * `StorkClient<Contract>` checks patterns and data against a map of pattern → `{ request, reply }`.
 *
 * @publicApi
 */
export class StorkClient<Contract = StorkContract> extends ClientProxy<
  StorkEvents,
  ConnectionState['value']
> {
  readonly #registry: TransportRegistry;
  readonly #name: string;
  readonly #logger = new Logger('Stork');
  readonly #events = new ConnectionEvents();
  #closed = false;

  /** Called by `StorkModule`. Inject the client instead, by `@InjectClient()`. */
  constructor(registry: TransportRegistry, name: string) {
    super();
    this.#registry = registry;
    this.#name = name;
    this._status$.next('idle');
    registry.statesOf(name).subscribe((state) => this._status$.next(state.value));
    this.#events.follow(name, registry.statesOf(name));
  }

  /**
   * Connects before the first message is sent, so that a wrong broker address is reported early, and opens a
   * closed client again.
   *
   * @throws ClientClosedError once the application is closed
   */
  override async connect(): Promise<void> {
    this.#closed = false;
    await this.#registry.get(this.#name).connect();
  }

  /**
   * Closes this client, which all its injectors share: later calls reject with `ClientClosedError`, until
   * `connect()` opens it again. The connections of the transport stay open until the application shuts down.
   */
  override close(): void {
    this.#closed = true;
  }

  /**
   * Calls the listener at each such event of the transport's connection.
   *
   * @throws StorkConfigError for an unknown event, and for a listener that is not a function
   */
  override on<E extends keyof StorkEvents>(event: E, listener: StorkEvents[E]): void {
    this.#events.on(event, listener);
  }

  /**
   * The broker's own client: for RabbitMQ the `ChannelModel` of amqplib that publishes, another one after
   * each reconnect; for Kafka the `Kafka` of kafkajs; for `memory()` the `MemoryBroker`.
   *
   * @throws ConnectionLostError while the transport is not connected
   * @throws ClientClosedError if the client or the application is closed
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's abstract signature
  override unwrap<T>(): T {
    this.#assertOpen();
    return this.#registry.get(this.#name).unwrap() as T;
  }

  /**
   * Sends a request and resolves with its reply: the last item of a streamed reply, `undefined` for an
   * empty one.
   *
   * @param options options of the message; `timeoutMs` defaults to 30 000
   * @throws RemoteError if the handler failed
   * @throws RequestTimeoutError if no reply arrived within `timeoutMs`
   * @throws NoRouteError if the broker routed the request to no queue, or the topic does not exist
   * @throws PublishRejectedError if the broker refused the request, e.g. because a queue is full
   * @throws PublishUnconfirmedError if it was sent and no confirmation arrived; whether the request was
   * handled is unknown
   * @throws ConnectionLostError if the connection was lost; whether the request was handled is unknown
   * @throws TooManyPendingError if `maxPending` requests are waiting for their replies; nothing was sent
   * @throws BufferFullError if too many messages wait for the broker; nothing was sent
   * @throws MessageTooLargeError if the message exceeds a limit of the broker; nothing was sent
   * @throws ClientClosedError if the client or the application is closed
   * @throws StorkConfigError if the pattern, the data or an option is invalid, or an option is not supported
   * @throws the reason of `signal` if it aborts first. After a failure a request that was not sent never is.
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
    this.#transport().request(call.pattern, call.data, call.options, {
      next: (value) => {
        last = value;
      },
      complete: () => resolve(last),
      error: reject,
    });
    return promise as Promise<[T] extends [never] ? ReplyOf<Contract, P> : T & Untyped<Contract>>;
  }

  /** Called by Nest's `send()`; not for applications. The first overload: type helpers read the last one. */
  override publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void;
  /**
   * Publishes an event. Resolves when the broker has confirmed and routed it. With `delayMs` it resolves
   * when the broker has stored the message; the broker routes it only when the delay has passed. Await it:
   * Node ends the process when a rejected promise is not handled. `emit()` needs no `await`.
   *
   * @param options options of the message; `timeoutMs` defaults to the transport's `publishTimeoutMs`, 30 000
   * @throws NoRouteError if the broker routed the message to no queue, or the topic does not exist
   * @throws PublishRejectedError if the broker refused the message, e.g. because a queue is full
   * @throws PublishUnconfirmedError if it was sent and no confirmation arrived, within `timeoutMs` or before
   * the connection was lost; the broker may have stored the message
   * @throws ConnectionLostError if it could not be sent within `timeoutMs`, because the broker is away or
   * slow; nothing was sent, nor will be
   * @throws BufferFullError if too many messages wait for the broker; nothing was sent
   * @throws MessageTooLargeError if the message exceeds a limit of the broker; nothing was sent
   * @throws ClientClosedError if the client or the application is closed
   * @throws StorkConfigError if the pattern, the data or an option is invalid, or an option is not supported
   * @throws the reason of `signal` if it aborts first
   */
  override publish<P extends PatternOf<Contract>>(
    pattern: P,
    data: RequestOf<Contract, P>,
    options?: MessageOptions,
  ): Promise<void>;
  override publish(...args: readonly unknown[]): Promise<void> | (() => void) {
    if (args.length === 2 && typeof args[1] === 'function' && typeof args[0] === 'object') {
      return this.#sendPacket(args[0] as ReadPacket, args[1] as (packet: WritePacket) => void);
    }
    return this.#publishEvent(args[0], args[1], args[2] as MessageOptions | undefined);
  }

  /**
   * Sends a request for each subscriber, as Nest's clients do, and emits each value of the reply. Fails as
   * `request()` does; options, e.g. `timeoutMs`, are passed by a `StorkRecordBuilder`.
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's signature
  override send<Result = unknown, Input = unknown>(pattern: unknown, data: Input): Observable<Result> {
    if (isNil(pattern) || isNil(data)) return super.send<Result, Input>(pattern, data);
    // Nest's own `send()` waits for `connect()` first, which no time limit of the request ends.
    return new Observable((observer) =>
      this.#sendPacket(this.#newPacket(pattern, data), this.createObserver(observer)),
    );
  }

  /**
   * Sends an event at once, as Nest's clients do. Fails as `publish()` does. A failure is logged and counted
   * as `emit-failed` unless the caller has subscribed.
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's signature
  override emit<Result = unknown, Input = unknown>(pattern: unknown, data: Input): Observable<Result> {
    if (isNil(pattern) || isNil(data)) {
      const failed = super.emit<Result, Input>(pattern, data);
      return this.#reportUnlessSubscribed(pattern, failed);
    }
    // Nest's own `emit()` waits for `connect()` first, which no time limit of the message ends.
    const emitted = from(this.#dispatch<Result>(pattern, data));
    return this.#reportUnlessSubscribed(pattern, emitted);
  }

  /** Called by `emit()`; not for applications. */
  override async dispatchEvent<T>(packet: ReadPacket): Promise<T> {
    this.#assertOpen();
    const call = this.#fromNestPacket(packet);
    return this.#transport().publish(call.pattern, call.data, call.options) as Promise<T>;
  }

  async #dispatch<T>(pattern: unknown, data: unknown): Promise<T> {
    return this.dispatchEvent<T>(this.#newPacket(pattern, data));
  }

  #reportUnlessSubscribed<T>(pattern: unknown, emitted: Observable<T>): Observable<T> {
    let isSubscribed = false;
    const report = (error: unknown): void => {
      if (isSubscribed) return;
      this.#registry.countersOf(this.#name)?.add('emit-failed');
      this.#logger.error(`${this.#name}: emit(${printable(pattern)}) failed: ${messageOf(error)}`);
    };
    // In a microtask: an error may come before the caller has subscribed.
    emitted.subscribe({ error: (error: unknown) => queueMicrotask(() => report(error)) });
    return new Observable((subscriber) => {
      isSubscribed = true;
      return emitted.subscribe(subscriber);
    });
  }

  async #publishEvent(pattern: unknown, data: unknown, options?: MessageOptions): Promise<void> {
    this.#assertOpen();
    const call = this.#withMetadata(pattern, data, options);
    await this.#transport().publish(call.pattern, call.data, call.options);
  }

  #sendPacket(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    this.#assertOpen();
    const call = this.#fromNestPacket(packet);
    return this.#transport().request(call.pattern, call.data, call.options, {
      next: (response) => callback({ response }),
      complete: () => callback({ isDisposed: true }),
      error: (err) => callback({ err }),
    });
  }

  /**
   * Enables correlation tracking on first use: a client got by `app.get()` is not found by the search for
   * injected clients at boot.
   */
  #transport(): StorkTransport {
    this.#registry.correlation.isEnabled = true;
    return this.#registry.get(this.#name);
  }

  /** Runs Nest's dispatch hook. Nest 11 has neither the hook nor `createPacket`. */
  #newPacket(pattern: unknown, data: unknown): ReadPacket {
    return 'createPacket' in this ? this.createPacket(pattern, data) : { pattern, data };
  }

  #withMetadata(pattern: unknown, data: unknown, options: MessageOptions = noOptions): OutgoingCall {
    const call = this.#fromPacket(this.#newPacket(pattern, data));
    if (options === noOptions) return call;
    return { ...call, options: { ...call.options, ...options, ...mergeHeaders(call.options, options) } };
  }

  /** `send()` and `emit()` take what Nest's own clients take. */
  #fromNestPacket(packet: ReadPacket): OutgoingCall {
    const call = this.#fromPacket(packet);
    const { driver } = this.#registry.get(this.#name);
    const record =
      readRmqRecord(call.data) ??
      (driver.capabilities.destinations.has('topic') ? readKafkaMessage(call.data) : undefined);
    if (record === undefined) return call;
    const { options, data } = record;
    return {
      ...call,
      data,
      options: { ...options, ...call.options, ...mergeHeaders(options, call.options) },
    };
  }

  /** @throws StorkConfigError if the pattern is invalid; core checks a pattern that is text */
  #fromPacket({ pattern, data, metadata }: ReadPacket): OutgoingCall {
    const problem = typeof pattern === 'string' ? undefined : findPatternProblem(pattern, 'pattern');
    if (problem !== undefined) throw new StorkConfigError([problem]);
    const record = isStorkRecord(data) ? data : undefined;
    const options = record === undefined ? noOptions : record.options;
    return {
      pattern: this.normalizePattern(pattern as never),
      data: record === undefined ? (data as unknown) : record.data,
      options:
        metadata === undefined ? options : { ...options, headers: { ...metadata, ...options.headers } },
    };
  }

  #assertOpen(): void {
    if (this.#closed) throw this.#closedError();
  }

  #closedError(): ClientClosedError {
    const name = JSON.stringify(this.#name);
    return new ClientClosedError(`the client of the transport ${name} is closed; connect() opens it again`);
  }
}

/** Nest's clients refuse such a pattern, and such data. */
function isNil(value: unknown): boolean {
  return value === undefined || value === null;
}

/** Headers from the dispatch hook or the record are kept next to those of the call, which override them. */
function mergeHeaders(attached: MessageOptions, given: MessageOptions): MessageOptions {
  if (attached.headers === undefined && given.headers === undefined) return noOptions;
  return { headers: { ...attached.headers, ...given.headers } };
}

interface OutgoingCall {
  readonly pattern: string;
  readonly data: unknown;
  readonly options: MessageOptions;
}
