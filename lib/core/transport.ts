import { endsWithin, type Clock } from './clock.js';
import { Codecs, builtInCodecs, type Codec } from './codec.js';
import type { ConnectionState } from './connection-state.js';
import type { DeadLetterPolicy } from './dead-letter-options.js';
import { letterTarget, refuseForeignTargets } from './dead-letter-target.js';
import type { Counters } from './counters.js';
import type { DeadLetterBox, DeadLetterPlace } from './dead-letters.js';
import type { Capabilities, Driver, LongestWait, Subscription, SubscriptionSpec } from './driver.js';
import { ClientClosedError, ConnectionLostError, messageOf, stackOf, type Problem } from './errors.js';
import {
  refuseIdempotentManual,
  refuseSharedManual,
  refuseWideBounds,
  subscribedPatterns,
} from './consumption.js';
import { HandlerTable, type Handler } from './handler-table.js';
import { Intake } from './intake.js';
import type { StorkLogger } from './logger.js';
import { buildMessage, type MessageOptions, type OutboundScope } from './outbound.js';
import { Naps } from './naps.js';
import { isPatternLength, maxPatternBytes } from './pattern.js';
import { processDelivery, type PipelineScope } from './pipeline.js';
import { giveBack, requeue } from './settlement.js';
import { longestWaitInPlaceMs, runsInPlace, totalMs } from './retry-policy.js';
import { StoreTrouble } from './store-trouble.js';
import { printable } from './text.js';
import { withTimeLimit } from './time-limit.js';
import { Requester, type ReplyObserver } from './requester.js';

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
  readonly codecs: readonly Codec[];
  readonly defaultContentType: string;
}

export interface TransportFields {
  readonly name: string;
  readonly driver: Driver;
  readonly settings: TransportSettings;
  readonly clock: Clock;
  readonly logger: StorkLogger;
  readonly counters: Counters;
}

/** How long a shutdown waits for the source to be given up. */
const leaveTimeoutMs = 5_000;

/** One named transport of an application: its driver, its handlers and its client's side, from start to close. */
export class Transport {
  readonly name: string;
  readonly counters: Counters;
  readonly #driver: Driver;
  readonly #settings: TransportSettings;
  readonly #clock: Clock;
  readonly #logger: StorkLogger;
  readonly #codecs: Codecs;
  readonly #outbound: OutboundScope;
  readonly #requester: Requester;
  readonly #naps: Naps;
  #bound: readonly Handler[] = [];
  #deadLetter: DeadLetterPolicy | undefined;
  #handlers: HandlerTable | undefined;
  #spec: SubscriptionSpec | undefined;
  #intake: Intake | undefined;
  #subscription: Subscription | undefined;
  #connecting: Promise<void> | undefined;
  #leaving: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor({ name, driver, settings, clock, logger, counters }: TransportFields) {
    this.name = name;
    this.counters = counters;
    this.#driver = driver;
    this.#settings = settings;
    this.#clock = clock;
    this.#logger = logger;
    this.#naps = new Naps(clock);
    this.#codecs = new Codecs([...builtInCodecs, ...settings.codecs], settings.defaultContentType);
    this.#outbound = { transport: name, capabilities: driver.capabilities, codecs: this.#codecs, clock };
    this.#requester = new Requester({
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
    return this.#intake?.inFlight ?? 0;
  }

  get pendingRequests(): number {
    return this.#requester.pending;
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
      longestWait: longestWait(handlers),
      deadLetterTargets: deadLetterTargets(handlers, this.#driver.capabilities),
    };
  }

  /** What the handlers' wishes contradict and what the broker could not carry. No I/O. */
  validate(): readonly Problem[] {
    const misfits = (this.#spec?.patterns ?? [])
      .filter(({ kind, text }) => kind !== 'regexp' && !isPatternLength(text))
      .map(({ text }) => ({
        name: `a pattern on the transport ${JSON.stringify(this.name)}`,
        expected: `1 to ${maxPatternBytes} bytes`,
        given: printable(text),
      }));
    return [
      ...misfits,
      ...refuseSharedManual(this.#bound),
      ...refuseIdempotentManual(this.#bound),
      ...refuseWideBounds(this.#bound, this.#settings.concurrency, this.name),
      ...refuseIdleDelays(this.#bound),
      ...refuseForeignTargets(this.#bound, this.#driver.capabilities, this.name),
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
    if (this.#spec === undefined || this.#closing !== undefined || this.#intake !== undefined) return;
    const intake = this.#openIntake(this.#handlers!, this.#deadLetter!);
    this.#intake = intake;
    this.#subscription = await this.#driver.subscribe(this.#spec, intake);
    intake.attach(this.#subscription);
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
    return this.#requester.request(pattern, data, options, observer);
  }

  /** Where dead letters lie. Whoever asks closes it. */
  async deadLetters(place: DeadLetterPlace): Promise<DeadLetterBox> {
    await this.connect();
    return this.#driver.deadLetters(place);
  }

  /**
   * Stops taking messages; waits up to `limitMs` for the handlers at work, then aborts them and gives their messages back. A second call
   * can only shorten the wait of the first. Never rejects.
   */
  async drain(limitMs: number): Promise<void> {
    const drained = this.#intake?.drain(limitMs, () => {
      const { running, held } = this.#intake!;
      const still = `${running} handlers still run after ${limitMs} ms, ${held} messages are kept by theirs`;
      this.#logger.warn(`${this.name}: ${still}; all are aborted and given back`);
    });
    // Only now: what wakes up is given back, and must not come to us again.
    this.#naps.end();
    await drained;
    this.#leaving ??= this.#leave();
    await this.#leaving;
  }

  async #leave(): Promise<void> {
    const left = this.#subscription?.close().catch((error: unknown) => this.#logger.warn(messageOf(error)));
    if (left !== undefined) await endsWithin(this.#clock, left, leaveTimeoutMs);
  }

  /** Rejects pending requests and ends the connections. Idempotent. */
  close(limitMs: number): Promise<void> {
    this.#closing ??= (async () => {
      this.#requester.close(this.#closedError());
      await this.#driver.close(limitMs);
    })();
    return this.#closing;
  }

  #openIntake(handlers: HandlerTable, deadLetter: DeadLetterPolicy): Intake {
    const { concurrency, maxBodyBytes, onUnhandled } = this.#settings;
    const { pausesWithoutRedelivery, ownsSource, requeuesTo } = this.#driver.capabilities;
    const intake: Intake = new Intake({
      concurrency,
      pausesWithoutRedelivery,
      pausesForLetters: requeuesTo === 'broker',
      clock: this.#clock,
      boundsOf: handlers.isBounded ? ({ message }) => handlers.boundsOf(message) : undefined,
      process: (delivery) => processDelivery(delivery, scope),
      failed: (delivery, error) => {
        // A bug of ours must cost a redelivery, not the message, and not the process.
        this.#logger.error(`${this.name}: ${stackOf(error) ?? messageOf(error)}`);
        return giveBack(delivery, scope);
      },
      release: (delivery) => void requeue(delivery, this),
    });
    const scope: PipelineScope = {
      subscription: this.name,
      driver: this.#driver,
      capabilities: this.#driver.capabilities,
      deadLetter,
      handlers,
      codecs: this.#codecs,
      maxBodyBytes,
      onUnhandled: onUnhandled ?? (ownsSource ? 'dead-letter' : 'skip'),
      clockSkewMs: this.#driver.clockSkewMs ?? 0,
      clock: this.#clock,
      logger: this.#logger,
      counters: this.counters,
      naps: this.#naps,
      consumerName: this.#driver.consumerName ?? this.name,
      storeTrouble: new StoreTrouble(this.name, this.#logger),
      random: Math.random,
      writingBlocked: (why) => this.#noteBlocked(intake.writingBlocked(why !== undefined), why),
    };
    return intake;
  }

  /** Once for a trouble, not once for each message and try. */
  #noteBlocked(isChange: boolean, why: string | undefined): void {
    if (!isChange) return;
    if (why === undefined)
      return this.#logger.log(`${this.name}: dead letters and retries can be written again`);
    const isPaused = this.#driver.capabilities.requeuesTo === 'broker';
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

function longestWait(handlers: readonly Handler[]): LongestWait {
  let longest: LongestWait = { handler: '', waitMs: 0, runs: 1, timeoutMs: 0 };
  for (const { id, retry, consumption } of handlers) {
    const one: LongestWait = {
      handler: id,
      waitMs: retry === undefined ? 0 : longestWaitInPlaceMs(retry),
      runs: retry === undefined ? 1 : runsInPlace(retry),
      timeoutMs: consumption?.timeoutMs ?? 0,
    };
    if (totalMs(one) > totalMs(longest)) longest = one;
  }
  return longest;
}

function deadLetterTargets(handlers: readonly Handler[], capabilities: Capabilities): readonly string[] {
  return [...new Set(handlers.flatMap(({ deadLetter }) => letterTarget(deadLetter, capabilities) ?? []))];
}

/** Whoever asks for a longer wait than the cap lets through would get the cap, and wonder. */
function refuseIdleDelays(handlers: readonly Handler[]): Problem[] {
  return handlers.flatMap(({ id, retry }) => {
    if (retry === undefined || retry.delayMs <= retry.maxDelayMs) return [];
    return {
      name: `delayMs of the retry policy of ${id}`,
      expected: `at most its maxDelayMs, ${retry.maxDelayMs}`,
      given: String(retry.delayMs),
    };
  });
}
