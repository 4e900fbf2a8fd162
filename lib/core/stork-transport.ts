import type { StorkClock } from './runtime/clock.js';
import { settlesWithin, withTimeout } from './runtime/with-timeout.js';
import { Codecs, builtInCodecs, type MessageCodec } from './message/codec.js';
import type { ConnectionState } from './port/connection-state.js';
import { type DeadLetterPolicy, deadLetterTarget, targetKind } from './dead-letter/dead-letter-options.js';
import {
  validateTargetKinds,
  validateIdempotentDelivery,
  validateSingleManual,
  validateConcurrency,
  subscribedPatterns,
} from './consume/consume-options.js';
import type { Counters, StorkLogger } from './runtime/reporting.js';
import type { DeadLetterStore, DeadLetterLocation } from './port/dead-letter-store.js';
import type { OutboundMessage } from './port/message.js';
import type { Capabilities, Driver, MaxHoldTime, Subscription, SubscriptionSpec } from './port/driver.js';
import { ClientClosedError, ConnectionLostError, messageOf, type ConfigProblem } from './runtime/errors.js';
import { HandlerTable } from './consume/handler-table.js';
import type { Handler } from './consume/handler.js';
import { DeliveryDispatcher } from './dispatch/delivery-dispatcher.js';
import { PendingPublishes } from './publish/pending-publishes.js';
import { EncodingOrder } from './publish/encoding-order.js';
import { buildMessage, type MessageOptions, type OutboundScope } from './publish/outgoing-message.js';
import { RetryTimers } from './retry/retry-timers.js';
import { isPatternLength, maxPatternBytes } from './message/pattern.js';
import { newPipeline, type PipelineScope } from './consume/pipeline.js';
import { requeue } from './consume/settlement.js';
import { composePolicies } from './consume/policies.js';
import { UnhandledLog, type UnhandledRedelivery } from './consume/unhandled.js';
import type { SubscriptionScope } from './consume/delivery-context.js';
import { maxInProcessWaitMs, maxInProcessAttempts, holdTimeMs } from './retry/retry-policy.js';
import { StoreHealthLog } from './idempotency/store-health-log.js';
import { UserHooks } from './runtime/user-hooks.js';
import { printable } from './message/text.js';
import { RequestClient, type ReplyObserver } from './publish/request-client.js';

/** Options of a transport that do not depend on its broker, with all defaults applied. */
export interface TransportSettings {
  readonly concurrency: number;
  /** Messages that may wait between attempts, at least `concurrency`. */
  readonly maxWaiting: number;
  readonly maxBodyBytes: number;
  readonly maxPending: number;
  /** How long a publish waits for the broker's confirmation. */
  readonly publishTimeoutMs: number;
  /** Undefined: `dead-letter` if the source is exclusive to this service, else `skip`. */
  readonly onUnhandled: 'dead-letter' | 'skip' | UnhandledRedelivery | undefined;
  readonly exposeErrors: boolean;
  /** How long a start waits for the connection. */
  readonly startTimeoutMs: number;
  /** The application's own codecs; a later one takes precedence. */
  readonly codecs: readonly MessageCodec[];
  readonly defaultContentType: string;
}

export interface StorkTransportFields {
  readonly name: string;
  readonly driver: Driver;
  readonly settings: TransportSettings;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
}

/** One named transport of an application, from start to close: its driver, its handlers and its client. */
export class StorkTransport {
  readonly name: string;
  readonly counters: Counters;
  readonly #driver: Driver;
  readonly #settings: TransportSettings;
  readonly #clock: StorkClock;
  readonly #logger: StorkLogger;
  readonly #codecs: Codecs;
  readonly #outbound: OutboundScope;
  readonly #requestClient: RequestClient;
  readonly #publishes: PendingPublishes;
  readonly #retryTimers: RetryTimers;
  readonly #hooks: UserHooks;
  #handlers: readonly Handler[] = [];
  #deadLetter: DeadLetterPolicy | undefined;
  #spec: SubscriptionSpec | undefined;
  #dispatcher: DeliveryDispatcher | undefined;
  #subscribing: Promise<Subscription> | undefined;
  #connecting: Promise<void> | undefined;
  /** Of the last attempt to connect. */
  #connectSignal: AbortController | undefined;
  #leaving: Promise<unknown> | undefined;
  #isDraining = false;
  /** Aborted by `close`: ends the steps of the start. */
  readonly #closeSignal = new AbortController();
  #closing: Promise<void> | undefined;

  constructor({ name, driver, settings, clock, logger, counters }: StorkTransportFields) {
    this.name = name;
    this.counters = counters;
    this.#driver = driver;
    this.#settings = settings;
    this.#clock = clock;
    this.#logger = logger;
    this.#retryTimers = new RetryTimers(clock);
    this.#hooks = new UserHooks(clock);
    this.#codecs = new Codecs([...builtInCodecs, ...settings.codecs], settings.defaultContentType, clock);
    this.#outbound = {
      transport: name,
      capabilities: driver.capabilities,
      codecs: this.#codecs,
      clock,
      order: new EncodingOrder(),
      destinationOf: (message) => destinationOf(driver, message),
    };
    this.#publishes = new PendingPublishes({ transport: name, state: driver.state, clock });
    this.#requestClient = new RequestClient({
      driver,
      outbound: this.#outbound,
      connect: () => this.connect(),
      maxPending: settings.maxPending,
      counters: this.counters,
    });
  }

  get driver(): Driver {
    return this.#driver;
  }

  get state(): ConnectionState {
    return this.#driver.state.current;
  }

  /** Messages delivered and not yet settled. */
  get inFlight(): number {
    return this.#dispatcher?.inFlight ?? 0;
  }

  get pendingRequests(): number {
    return this.#requestClient.pending;
  }

  /**
   * Sets the handlers, before `validate` and `declare`. A transport without handlers declares and consumes
   * nothing.
   *
   * @param deadLetter policy for messages that reach no handler
   */
  bind(handlers: readonly Handler[], deadLetter: DeadLetterPolicy): void {
    if (handlers.length === 0) return;
    const { concurrency, onUnhandled } = this.#settings;
    this.#deadLetter = deadLetter;
    this.#handlers = handlers;
    this.#spec = {
      id: this.name,
      patterns: subscribedPatterns(handlers),
      concurrency,
      redeliverDelaysMs: redeliverDelays(handlers),
      unhandledDelayMs: typeof onUnhandled === 'object' ? onUnhandled.redeliverMs : undefined,
      maxHoldTime: maxHoldTime(handlers),
      deadLetterTargets: deadLetterTargets(handlers, this.#driver.capabilities),
    };
  }

  /** Returns contradictions between the handlers' settings, and what the broker cannot express. No I/O. */
  validate(): readonly ConfigProblem[] {
    const invalidPatterns = (this.#spec?.patterns ?? [])
      .filter(({ kind, text }) => kind !== 'regexp' && !isPatternLength(text))
      .map(({ text, handlerNames }) => ({
        name: `pattern of ${handlerNames.join(', ')} on the transport ${JSON.stringify(this.name)}`,
        expected: `1 to ${maxPatternBytes} bytes`,
        given: printable(text),
      }));
    return [
      ...invalidPatterns,
      ...validateSingleManual(this.#handlers),
      ...validateIdempotentDelivery(this.#handlers),
      ...validateMaxWaiting(this.#settings, this.name),
      ...validateConcurrency(this.#handlers, this.#settings.concurrency, this.name),
      ...validateRetryDelays(this.#handlers),
      ...validateTargetKinds(this.#handlers, this.#driver.capabilities, this.name),
      ...this.#driver.validate(this.#spec),
    ];
  }

  /** Resolves when the transport can publish. May be called again after it has rejected. */
  connect(): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(this.#closedError());
    this.#connecting ??= this.#connectWithin(this.#settings.startTimeoutMs).catch((error: unknown) => {
      this.#connecting = undefined;
      throw error;
    });
    return this.#connecting;
  }

  /**
   * Ends an attempt to connect that is under way, as its time limit would. For a start that has failed
   * elsewhere: the attempt would keep the process alive.
   */
  stopConnecting(): void {
    this.#connectSignal?.abort(new ConnectionLostError(`${this.name}: the start has failed`));
  }

  /** Declares what the handlers consume from. */
  async declare(): Promise<void> {
    if (this.#closing !== undefined) throw this.#closedError();
    if (this.#spec !== undefined) await this.#untilClosed(this.#driver.declare(this.#spec));
  }

  /** Starts consuming, if there are handlers. May be called again after it has rejected. */
  async consume(): Promise<void> {
    if (this.#spec === undefined || this.#dispatcher !== undefined) return;
    if (this.#isDraining || this.#closing !== undefined) return;
    const dispatcher = this.#openDispatcher(this.#deadLetter!);
    this.#dispatcher = dispatcher;
    this.#subscribing = this.#driver.subscribe(this.#spec, dispatcher);
    try {
      dispatcher.attach(await this.#untilClosed(this.#subscribing));
    } catch (error) {
      this.#dispatcher = undefined;
      throw error;
    }
    if (this.#isDraining) return;
    this.#logger.log(
      `${this.name}: consuming, ${this.#handlers.length} handlers, concurrency ${this.#settings.concurrency}`,
    );
  }

  /** Calls the codec before it returns: unless that is asynchronous, the caller may change the data then. */
  async publish(pattern: string, data: unknown, options: MessageOptions): Promise<void> {
    if (this.#closing !== undefined) throw this.#closedError();
    const { signal, timeoutMs = this.#settings.publishTimeoutMs } = options;
    if (signal?.aborted === true) throw signal.reason;
    // First, because it validates the time limit and the signal.
    const built = buildMessage(pattern, data, options, this.#outbound);
    await this.#publishes.run({ pattern, timeoutMs, signal }, async (cancellation) => {
      const ordered = this.#outbound.order.inOrder(built, cancellation);
      const message = ordered instanceof Promise ? await ordered : ordered;
      await this.connect();
      if (!cancellation.isCancelled) await this.#driver.publish(message, cancellation);
    });
  }

  request(pattern: string, data: unknown, options: MessageOptions, observer: ReplyObserver): () => void {
    return this.#requestClient.request(pattern, data, options, observer);
  }

  /**
   * The broker's own client.
   *
   * @throws ClientClosedError once the transport is closed
   * @throws ConnectionLostError while it is not connected
   */
  unwrap(): unknown {
    if (this.#closing !== undefined) throw this.#closedError();
    const client = this.#driver.unwrap();
    if (client !== undefined) return client;
    throw new ConnectionLostError(
      `${this.name}: there is no client to unwrap, the transport is not connected (${this.state.value})`,
    );
  }

  /** Opens a dead letter store, which the caller must close. */
  async deadLetters(location: DeadLetterLocation): Promise<DeadLetterStore> {
    await this.connect();
    return this.#driver.deadLetters(location);
  }

  /**
   * Stops consuming and waits up to `limitMs` for running handlers, then aborts them and requeues their
   * messages. A second call can only shorten the wait of the first. Never rejects.
   */
  async drain(limitMs: number): Promise<void> {
    const dispatcher = this.#dispatcher;
    const drained = dispatcher?.drain(limitMs, () => {
      const { running, deferred } = dispatcher;
      const still = `${running} handlers are still running after ${limitMs} ms, ${deferred} messages await manual acknowledgement`;
      this.#logger.warn(
        `${this.name}: ${still}; all are aborted, and requeued unless they were acknowledged before processing`,
      );
    });
    this.#isDraining = true;
    await drained;
  }

  /**
   * Leaves the source after `drain`, and waits for the user's hooks that are still running, within `limitMs`.
   * A second call can only shorten the wait of the first. Never rejects.
   */
  async leave(limitMs: number): Promise<void> {
    this.#leaving ??= settlesWithin(
      this.#clock,
      Promise.all([this.#hooks.settled(), this.#closeSubscription(limitMs)]),
      limitMs,
    );
    await settlesWithin(this.#clock, this.#leaving, limitMs);
    this.#hooks.close();
  }

  async #closeSubscription(limitMs: number): Promise<void> {
    // A subscription that is still being opened has to be closed too, or this member keeps its partitions.
    const subscription = await this.#subscribing?.catch(() => undefined);
    await subscription?.close(limitMs).catch((error: unknown) => this.#logger.warn(messageOf(error)));
  }

  /** Rejects pending requests, flushes publishes and closes the connections, within `limitMs`. Idempotent. */
  close(limitMs: number): Promise<void> {
    this.#closing ??= (async () => {
      this.#closeSignal.abort(this.#closedError());
      this.#requestClient.close(this.#closedError());
      await settlesWithin(this.#clock, this.#driver.close(limitMs), limitMs);
      this.#publishes.close();
    })();
    return this.#closing;
  }

  #openDispatcher(deadLetter: DeadLetterPolicy): DeliveryDispatcher {
    const { concurrency, maxWaiting, maxBodyBytes, onUnhandled } = this.#settings;
    const { capabilities } = this.#driver;
    const scope: SubscriptionScope = {
      subscription: this.name,
      driver: this.#driver,
      capabilities,
      deadLetterKind: targetKind(capabilities),
      exposeErrors: this.#settings.exposeErrors,
      deadLetter,
      clock: this.#clock,
      logger: this.#logger,
      counters: this.counters,
      retryTimers: this.#retryTimers,
      consumerName: this.#driver.consumerName ?? this.name,
      storeHealth: new StoreHealthLog(this.name, this.#logger),
      random: Math.random,
      hooks: this.#hooks,
      onRepublishBlocked: (why) =>
        this.#logRepublishBlocked(dispatcher.onRepublishBlocked(why !== undefined), why),
    };
    const handlers = new HandlerTable(this.#handlers.map((handler) => composePolicies(handler, scope)));
    const pipeline: PipelineScope = {
      ...scope,
      handlers,
      codecs: this.#codecs,
      maxBodyBytes,
      onUnhandled: onUnhandled ?? (capabilities.exclusiveSource ? 'dead-letter' : 'skip'),
      unhandledLog: new UnhandledLog(this.name, this.#logger),
      deliveryLimit: this.#driver.deliveryLimit ?? Infinity,
      clockSkewMs: this.#driver.clockSkewMs ?? 0,
    };
    const dispatcher: DeliveryDispatcher = new DeliveryDispatcher({
      concurrency,
      maxWaiting,
      pausesWithoutRedelivery: capabilities.pausesWithoutRedelivery,
      pausesWhileRepublishBlocked: capabilities.requeue === 'broker',
      clock: this.#clock,
      retryTimers: this.#retryTimers,
      limitsOf: handlers.hasLimits ? ({ message }) => handlers.limitsOf(message) : undefined,
      process: newPipeline(pipeline),
      returnToSource: (delivery) => requeue(delivery, this),
    });
    return dispatcher;
  }

  /** Logs once per outage, not per message and retry. */
  #logRepublishBlocked(isFirstOrLast: boolean, why: string | undefined): void {
    if (!isFirstOrLast) return;
    if (why === undefined)
      return this.#logger.log(`${this.name}: republishing dead letters and retries has recovered`);
    const isPaused = this.#driver.capabilities.requeue === 'broker';
    const consequence = isPaused ? 'the source is paused' : 'their messages stay unsettled';
    this.#logger.error(
      `${this.name}: dead letters or retries cannot be republished, ${consequence} until they can: ${why}`,
    );
  }

  async #connectWithin(limitMs: number): Promise<void> {
    const timeout = new AbortController();
    this.#connectSignal = timeout;
    const cancel = this.#clock.setTimer(limitMs, () => {
      timeout.abort(new ConnectionLostError(`${this.name}: no connection within ${limitMs} ms`));
    });
    try {
      await this.#untilClosed(this.#driver.connect(timeout.signal));
    } finally {
      cancel();
    }
  }

  /**
   * Settles like `step`, or rejects with `ClientClosedError` as soon as the transport is closed: the client
   * of a broker may reject an interrupted step with an error of its own, or never settle it.
   */
  #untilClosed<T>(step: Promise<T>): Promise<T> {
    return withTimeout(step, { signal: this.#closeSignal.signal });
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`the transport ${JSON.stringify(this.name)} is closed`);
  }
}

/** Undefined where `publish` will say what is wrong. */
function destinationOf(driver: Driver, message: Pick<OutboundMessage, 'pattern' | 'to'>): string | undefined {
  try {
    return driver.destinationOf?.(message);
  } catch {
    return undefined;
  }
}

function redeliverDelays(handlers: readonly Handler[]): readonly number[] {
  const delays = handlers.flatMap(({ retry }) => retry?.redeliverDelaysMs ?? []);
  return [...new Set(delays)].toSorted((a, b) => a - b);
}

function maxHoldTime(handlers: readonly Handler[]): MaxHoldTime {
  let longest: MaxHoldTime = { handler: '', waitMs: 0, attempts: 1, timeoutMs: 0 };
  for (const { id, retry, consume } of handlers) {
    const one: MaxHoldTime = {
      handler: id,
      waitMs: retry === undefined ? 0 : maxInProcessWaitMs(retry),
      attempts: retry === undefined ? 1 : maxInProcessAttempts(retry),
      timeoutMs: consume?.timeoutMs ?? 0,
    };
    if (holdTimeMs(one) > holdTimeMs(longest)) longest = one;
  }
  return longest;
}

function deadLetterTargets(handlers: readonly Handler[], capabilities: Capabilities): readonly string[] {
  return [...new Set(handlers.flatMap(({ deadLetter }) => deadLetterTarget(deadLetter, capabilities) ?? []))];
}

/** Any message that is handled may have to wait. */
function validateMaxWaiting({ maxWaiting, concurrency }: TransportSettings, name: string): ConfigProblem[] {
  if (maxWaiting >= concurrency) return [];
  const expected = `at least ${concurrency}, its concurrency`;
  return [{ name: `transports.${name}.maxWaiting`, expected, given: String(maxWaiting) }];
}

/** A `delayMs` above `maxDelayMs` would be shortened to it without notice. */
function validateRetryDelays(handlers: readonly Handler[]): ConfigProblem[] {
  return handlers.flatMap(({ id, retry }) => {
    if (retry === undefined || retry.delayMs <= retry.maxDelayMs) return [];
    return {
      name: `delayMs of the retry policy of ${id}`,
      expected: `at most its maxDelayMs, ${retry.maxDelayMs}`,
      given: String(retry.delayMs),
    };
  });
}
