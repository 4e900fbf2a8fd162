import { endsWithin } from './clock.js';
import { Codecs, builtInCodecs } from './codec.js';
import { ClientClosedError, ConnectionLostError, messageOf, stackOf } from './errors.js';
import { refuseSharedManual, refuseWideBounds, subscribedPatterns } from './consumption.js';
import { HandlerTable } from './handler-table.js';
import { Intake } from './intake.js';
import { buildMessage } from './outbound.js';
import { isPatternLength, maxPatternBytes } from './pattern.js';
import { processDelivery } from './pipeline.js';
import { giveBack, requeue } from './settlement.js';
import { printable } from './text.js';
import { Requester } from './requester.js';
/** How long a shutdown waits for the source to be given up. */
const leaveTimeoutMs = 5_000;
/** One named transport of an application: its driver, its handlers and its client's side, from start to close. */
export class Transport {
  name;
  counters;
  #driver;
  #settings;
  #clock;
  #logger;
  #codecs;
  #outbound;
  #requester;
  #bound = [];
  #handlers;
  #spec;
  #intake;
  #subscription;
  #connecting;
  #leaving;
  #closing;
  constructor({ name, driver, settings, clock, logger, counters }) {
    this.name = name;
    this.counters = counters;
    this.#driver = driver;
    this.#settings = settings;
    this.#clock = clock;
    this.#logger = logger;
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
  get driver() {
    return this.#driver;
  }
  get state() {
    return this.#driver.state.current;
  }
  /** Messages taken and not settled. */
  get inFlight() {
    return this.#intake?.inFlight ?? 0;
  }
  get pendingRequests() {
    return this.#requester.pending;
  }
  /** Gives the transport its handlers, before `start`; without any it consumes nothing and declares nothing. */
  bind(handlers) {
    if (handlers.length === 0) return;
    this.#bound = handlers;
    this.#handlers = new HandlerTable(handlers);
    this.#spec = {
      id: this.name,
      patterns: subscribedPatterns(handlers),
      concurrency: this.#settings.concurrency,
    };
  }
  /** What the handlers' wishes contradict and what the broker could not carry. No I/O. */
  validate() {
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
      ...refuseWideBounds(this.#bound, this.#settings.concurrency, this.name),
      ...this.#driver.validate(this.#spec),
    ];
  }
  /** Resolves when messages can be published; a failed try can be repeated. */
  connect() {
    if (this.#closing !== undefined) return Promise.reject(this.#closedError());
    this.#connecting ??= this.#connectWithin(this.#settings.startTimeoutMs).catch((error) => {
      this.#connecting = undefined;
      throw error;
    });
    return this.#connecting;
  }
  /** Makes what the handlers need to exist. */
  async declare() {
    if (this.#spec !== undefined) await this.#driver.declare(this.#spec);
  }
  /** Begins to consume, if there are handlers. */
  async consume() {
    if (this.#spec === undefined || this.#closing !== undefined || this.#intake !== undefined) return;
    const intake = this.#openIntake(this.#handlers);
    this.#intake = intake;
    this.#subscription = await this.#driver.subscribe(this.#spec, intake);
    intake.attach(this.#subscription);
    this.#logger.log(
      `${this.name}: consuming, ${this.#handlers.size} handlers, concurrency ${this.#settings.concurrency}`,
    );
  }
  /** Encodes at once: the caller may change its data as soon as it has the promise. */
  async publish(pattern, data, options) {
    options.signal?.throwIfAborted();
    const message = buildMessage(pattern, data, options, this.#outbound);
    await this.connect();
    await this.#driver.publish(message);
  }
  request(pattern, data, options, observer) {
    return this.#requester.request(pattern, data, options, observer);
  }
  /**
   * Stops taking messages; waits up to `limitMs` for the handlers at work, then aborts them and gives their messages back. A second call
   * can only shorten the wait of the first. Never rejects.
   */
  async drain(limitMs) {
    await this.#intake?.drain(limitMs, () => {
      const { running, held } = this.#intake;
      const still = `${running} handlers still run after ${limitMs} ms, ${held} messages are kept by theirs`;
      this.#logger.warn(`${this.name}: ${still}; all are aborted and given back`);
    });
    this.#leaving ??= this.#leave();
    await this.#leaving;
  }
  async #leave() {
    const left = this.#subscription?.close().catch((error) => this.#logger.warn(messageOf(error)));
    if (left !== undefined) await endsWithin(this.#clock, left, leaveTimeoutMs);
  }
  /** Rejects pending requests and ends the connections. Idempotent. */
  close(limitMs) {
    this.#closing ??= (async () => {
      this.#requester.close(this.#closedError());
      await this.#driver.close(limitMs);
    })();
    return this.#closing;
  }
  #openIntake(handlers) {
    const { concurrency, maxBodyBytes, onUnhandled } = this.#settings;
    const { pausesWithoutRedelivery, ownsSource } = this.#driver.capabilities;
    const intake = new Intake({
      concurrency,
      pausesWithoutRedelivery,
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
    const scope = {
      subscription: this.name,
      driver: this.#driver,
      capabilities: this.#driver.capabilities,
      handlers,
      codecs: this.#codecs,
      maxBodyBytes,
      onUnhandled: onUnhandled ?? (ownsSource ? 'dead-letter' : 'skip'),
      clock: this.#clock,
      logger: this.#logger,
      counters: this.counters,
      writingBlocked: (why) => this.#noteBlocked(intake.writingBlocked(why !== undefined), why),
    };
    return intake;
  }
  /** Once for a trouble, not once for each message and try. */
  #noteBlocked(isChange, why) {
    if (!isChange) return;
    if (why === undefined) this.#logger.log(`${this.name}: dead letters can be written again`);
    else
      this.#logger.error(
        `${this.name}: dead letters cannot be written, the source is paused until they can: ${why}`,
      );
  }
  async #connectWithin(limitMs) {
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
  #closedError() {
    return new ClientClosedError(`the transport ${JSON.stringify(this.name)} is closed`);
  }
}
