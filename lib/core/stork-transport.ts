import type { StorkClock } from './runtime/clock.js';
import { settlesWithin } from './runtime/with-timeout.js';
import { Codecs, builtInCodecs, type MessageCodec } from './message/codec.js';
import type { ConnectionState } from './port/connection-state.js';
import { type DeadLetterPolicy, deadLetterTarget } from './dead-letter/dead-letter-options.js';
import {
  validateTargetKinds,
  validateIdempotentDelivery,
  validateSingleManual,
  validateConcurrency,
  subscribedPatterns,
} from './consume/consume-options.js';
import type { Counters } from './runtime/counters.js';
import type { DeadLetterStore, DeadLetterLocation } from './port/dead-letter-store.js';
import type { Capabilities, Driver, MaxHoldTime, Subscription, SubscriptionSpec } from './port/driver.js';
import {
  ClientClosedError,
  ConnectionLostError,
  messageOf,
  stackOf,
  type ConfigProblem,
} from './runtime/errors.js';
import { HandlerTable } from './consume/handler-table.js';
import type { Handler } from './consume/handler.js';
import { DeliveryDispatcher } from './consume/delivery-dispatcher.js';
import type { StorkLogger } from './runtime/logger.js';
import { buildMessage, type MessageOptions, type OutboundScope } from './publish/outgoing-message.js';
import { RetryTimers } from './retry/retry-timers.js';
import { isPatternLength, maxPatternBytes } from './message/pattern.js';
import { processDelivery, type PipelineScope } from './consume/pipeline.js';
import { requeueAfterDelay, requeue } from './consume/settlement.js';
import { maxInProcessWaitMs, maxInProcessAttempts, holdTimeMs } from './retry/retry-policy.js';
import { StoreHealthLog } from './idempotency/idempotency-policy.js';
import { printable } from './message/text.js';
import { withTimeLimit } from './consume/handler-timeout.js';
import { RequestClient, type ReplyObserver } from './publish/request-client.js';

/** What the user decided for a transport, whatever its broker; every default filled in. */
export interface TransportSettings {
  readonly concurrency: number;
  readonly maxBodyBytes: number;
  readonly maxPending: number;
  /** Undefined: what the driver says fits its source. */
  readonly onUnhandled: 'dead-letter' | 'skip' | undefined;
  /** How long a start, or a first message, waits for the broker. */
  readonly startTimeoutMs: number;
  /** The user's own, in rising precedence. */
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

/** How long a shutdown waits for the source to be given up. */
const leaveTimeoutMs = 5_000;

/** One named transport of an application: its driver, its handlers and its client's side, from start to close. */
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
  readonly #retryTimers: RetryTimers;
  #bound: readonly Handler[] = [];
  #deadLetter: DeadLetterPolicy | undefined;
  #handlers: HandlerTable | undefined;
  #spec: SubscriptionSpec | undefined;
  #dispatcher: DeliveryDispatcher | undefined;
  #subscription: Subscription | undefined;
  #connecting: Promise<void> | undefined;
  #leaving: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor({ name, driver, settings, clock, logger, counters }: StorkTransportFields) {
    this.name = name;
    this.counters = counters;
    this.#driver = driver;
    this.#settings = settings;
    this.#clock = clock;
    this.#logger = logger;
    this.#retryTimers = new RetryTimers(clock);
    this.#codecs = new Codecs([...builtInCodecs, ...settings.codecs], settings.defaultContentType);
    this.#outbound = { transport: name, capabilities: driver.capabilities, codecs: this.#codecs, clock };
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

  /** Messages taken and not settled. */
  get inFlight(): number {
    return this.#dispatcher?.inFlight ?? 0;
  }

  get pendingRequests(): number {
    return this.#requestClient.pending;
  }

  /**
   * Gives the transport its handlers, before `start`; without any it consumes nothing and declares nothing.
   * @param deadLetter for messages that none of them may see
   */
  bind(given: readonly Handler[], deadLetter: DeadLetterPolicy): void {
    if (given.length === 0) return;
    this.#deadLetter = deadLetter;
    const handlers = given.map((handler) =>
      withTimeLimit(handler, { name: this.name, clock: this.#clock, logger: this.#logger }),
    );
    this.#bound = handlers;
    this.#handlers = new HandlerTable(handlers);
    this.#spec = {
      id: this.name,
      patterns: subscribedPatterns(handlers),
      concurrency: this.#settings.concurrency,
      redeliverDelaysMs: redeliverDelays(handlers),
      maxHoldTime: maxHoldTime(handlers),
      deadLetterTargets: deadLetterTargets(handlers, this.#driver.capabilities),
    };
  }

  /** What the handlers' wishes contradict and what the broker could not carry. No I/O. */
  validate(): readonly ConfigProblem[] {
    const misfits = (this.#spec?.patterns ?? [])
      .filter(({ kind, text }) => kind !== 'regexp' && !isPatternLength(text))
      .map(({ text }) => ({
        name: `a pattern on the transport ${JSON.stringify(this.name)}`,
        expected: `1 to ${maxPatternBytes} bytes`,
        given: printable(text),
      }));
    return [
      ...misfits,
      ...validateSingleManual(this.#bound),
      ...validateIdempotentDelivery(this.#bound),
      ...validateConcurrency(this.#bound, this.#settings.concurrency, this.name),
      ...validateRetryDelays(this.#bound),
      ...validateTargetKinds(this.#bound, this.#driver.capabilities, this.name),
      ...this.#driver.validate(this.#spec),
    ];
  }

  /** Resolves when messages can be published; a failed try can be repeated. */
  connect(): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(this.#closedError());
    this.#connecting ??= this.#connectWithin(this.#settings.startTimeoutMs).catch((error: unknown) => {
      this.#connecting = undefined;
      throw error;
    });
    return this.#connecting;
  }

  /** Makes what the handlers need to exist. */
  async declare(): Promise<void> {
    if (this.#spec !== undefined) await this.#driver.declare(this.#spec);
  }

  /** Begins to consume, if there are handlers. */
  async consume(): Promise<void> {
    if (this.#spec === undefined || this.#closing !== undefined || this.#dispatcher !== undefined) return;
    const dispatcher = this.#openDispatcher(this.#handlers!, this.#deadLetter!);
    this.#dispatcher = dispatcher;
    this.#subscription = await this.#driver.subscribe(this.#spec, dispatcher);
    dispatcher.attach(this.#subscription);
    this.#logger.log(
      `${this.name}: consuming, ${this.#handlers!.size} handlers, concurrency ${this.#settings.concurrency}`,
    );
  }

  /** Encodes at once: the caller may change its data as soon as it has the promise. */
  async publish(pattern: string, data: unknown, options: MessageOptions): Promise<void> {
    options.signal?.throwIfAborted();
    const message = buildMessage(pattern, data, options, this.#outbound);
    await this.connect();
    await this.#driver.publish(message);
  }

  request(pattern: string, data: unknown, options: MessageOptions, observer: ReplyObserver): () => void {
    return this.#requestClient.request(pattern, data, options, observer);
  }

  /** Where dead letters lie. Whoever asks closes it. */
  async deadLetters(place: DeadLetterLocation): Promise<DeadLetterStore> {
    await this.connect();
    return this.#driver.deadLetters(place);
  }

  /**
   * Stops taking messages; waits up to `limitMs` for the handlers at work, then aborts them and gives their messages back. A second call
   * can only shorten the wait of the first. Never rejects.
   */
  async drain(limitMs: number): Promise<void> {
    const drained = this.#dispatcher?.drain(limitMs, () => {
      const { running, deferred: held } = this.#dispatcher!;
      const still = `${running} handlers still run after ${limitMs} ms, ${held} messages are kept by theirs`;
      this.#logger.warn(`${this.name}: ${still}; all are aborted and given back`);
    });
    // Only now: what wakes up is given back, and must not come to us again.
    this.#retryTimers.close();
    await drained;
    this.#leaving ??= this.#leave();
    await this.#leaving;
  }

  async #leave(): Promise<void> {
    const left = this.#subscription?.close().catch((error: unknown) => this.#logger.warn(messageOf(error)));
    if (left !== undefined) await settlesWithin(this.#clock, left, leaveTimeoutMs);
  }

  /** Rejects pending requests and ends the connections. Idempotent. */
  close(limitMs: number): Promise<void> {
    this.#closing ??= (async () => {
      this.#requestClient.close(this.#closedError());
      await this.#driver.close(limitMs);
    })();
    return this.#closing;
  }

  #openDispatcher(handlers: HandlerTable, deadLetter: DeadLetterPolicy): DeliveryDispatcher {
    const { concurrency, maxBodyBytes, onUnhandled } = this.#settings;
    const { capabilities } = this.#driver;
    const dispatcher: DeliveryDispatcher = new DeliveryDispatcher({
      concurrency,
      pausesWithoutRedelivery: capabilities.pausesWithoutRedelivery,
      pausesWhileRepublishBlocked: capabilities.requeue === 'broker',
      clock: this.#clock,
      limitsOf: handlers.hasLimits ? ({ message }) => handlers.limitsOf(message) : undefined,
      process: (delivery) => processDelivery(delivery, scope),
      onProcessFailed: (delivery, error) => {
        // A bug of ours must cost a redelivery, not the message, and not the process.
        this.#logger.error(`${this.name}: ${stackOf(error) ?? messageOf(error)}`);
        return requeueAfterDelay(delivery, scope);
      },
      returnToSource: (delivery) => void requeue(delivery, this),
    });
    const scope: PipelineScope = {
      subscription: this.name,
      driver: this.#driver,
      capabilities: this.#driver.capabilities,
      deadLetter,
      handlers,
      codecs: this.#codecs,
      maxBodyBytes,
      onUnhandled: onUnhandled ?? (capabilities.exclusiveSource ? 'dead-letter' : 'skip'),
      clockSkewMs: this.#driver.clockSkewMs ?? 0,
      clock: this.#clock,
      logger: this.#logger,
      counters: this.counters,
      retryTimers: this.#retryTimers,
      consumerName: this.#driver.consumerName ?? this.name,
      storeHealth: new StoreHealthLog(this.name, this.#logger),
      random: Math.random,
      onRepublishBlocked: (why) =>
        this.#logRepublishBlocked(dispatcher.onRepublishBlocked(why !== undefined), why),
    };
    return dispatcher;
  }

  /** Once for a trouble, not once for each message and try. */
  #logRepublishBlocked(isChange: boolean, why: string | undefined): void {
    if (!isChange) return;
    if (why === undefined)
      return this.#logger.log(`${this.name}: dead letters and retries can be written again`);
    const isPaused = this.#driver.capabilities.requeue === 'broker';
    const waits = isPaused ? 'the source is paused' : 'their messages wait';
    this.#logger.error(
      `${this.name}: dead letters or retries cannot be written, ${waits} until they can: ${why}`,
    );
  }

  async #connectWithin(limitMs: number): Promise<void> {
    const patience = new AbortController();
    const cancel = this.#clock.setTimer(limitMs, () => {
      patience.abort(new ConnectionLostError(`${this.name}: no connection within ${limitMs} ms`));
    });
    try {
      await this.#driver.connect(patience.signal);
    } finally {
      cancel();
    }
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`the transport ${JSON.stringify(this.name)} is closed`);
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

/** Whoever asks for a longer wait than the cap lets through would get the cap, and wonder. */
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
