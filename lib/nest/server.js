var __decorate =
  (this && this.__decorate) ||
  function (decorators, target, key, desc) {
    var c = arguments.length,
      r = c < 3 ? target : desc === null ? (desc = Object.getOwnPropertyDescriptor(target, key)) : desc,
      d;
    if (typeof Reflect === 'object' && typeof Reflect.decorate === 'function')
      r = Reflect.decorate(decorators, target, key, desc);
    else
      for (var i = decorators.length - 1; i >= 0; i--)
        if ((d = decorators[i])) r = (c < 3 ? d(r) : c > 3 ? d(target, key, r) : d(target, key)) || r;
    return (c > 3 && r && Object.defineProperty(target, key, r), r);
  };
var __metadata =
  (this && this.__metadata) ||
  function (k, v) {
    if (typeof Reflect === 'object' && typeof Reflect.metadata === 'function') return Reflect.metadata(k, v);
  };
import { Injectable, Logger } from '@nestjs/common';
import { Server } from '@nestjs/microservices';
import { StorkConfigError } from '../core/errors.js';
import { checkMethods, groupByMethod, methodsOn, toHandler } from './handler-binder.js';
import { HandlerExplorer } from './handler-explorer.js';
import { runHandler } from './run-handler.js';
import { TransportRegistry } from './transport-registry.js';
/** How long after `listen()` the bootstrap may stay away, or the other way round, before we ask for it. */
const otherHalfMs = 30_000;
/**
 * Nest's strategy for every transport of the module. It connects and declares in `listen()` and consumes once the application has
 * bootstrapped: handlers must not run before the providers that they use are ready.
 */
let StorkServer = class StorkServer extends Server {
  /** We await the handlers' streams and log their failures; Nest need not. */
  propagatesEventHandlerErrors = true;
  logger = new Logger('Stork');
  #registry;
  #explorer;
  #bindings = [];
  #hasHooks = false;
  #isConnected = false;
  #isConnectedTwice = false;
  #reminder;
  #isBootstrapped = false;
  #isPrepared = false;
  #consuming;
  #isDraining = false;
  constructor(registry, explorer) {
    super();
    this.#registry = registry;
    this.#explorer = explorer;
  }
  /** Called by what gives the strategy to Nest. */
  markConnected() {
    if (this.#isConnected) this.#isConnectedTwice = true;
    this.#isConnected = true;
  }
  get isConnected() {
    return this.#isConnected;
  }
  /**
   * Takes every binding as it comes: several handlers of one event settle by themselves, where Nest would chain them so that one that
   * fails cancels the others.
   */
  addHandler(pattern, handler, isEvent = false, extras = {}) {
    this.#bindings.push({ pattern, handler, isEvent, extras });
  }
  listen(callback) {
    this.#start().then(() => callback(), callback);
  }
  /** Idempotent last resort; a worker's `app.close()` comes here before any hook. Connections end with the application's shutdown. */
  close() {
    return this.drain(this.#registry.drainTimeoutMs);
  }
  on() {
    throw new Error('StorkServer emits no events; subscribe to StorkService.state() instead');
  }
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's abstract signature
  unwrap() {
    return this.#registry.all();
  }
  /** Called by the lifecycle once every provider is ready. */
  async bootstrapped() {
    this.#isBootstrapped = true;
    if (this.#isConnected && !this.#isPrepared) {
      this.#remind(
        'handlers receive nothing: the microservices were not started; call app.startAllMicroservices()',
      );
    } else {
      this.#reminder?.();
    }
    await this.#consumeIfReady();
  }
  /** Stops consuming on every transport; a second call can only shorten the wait of the first. */
  async drain(limitMs) {
    this.#isDraining = true;
    this.#reminder?.();
    await Promise.allSettled([...this.#registry.created()].map((transport) => transport.drain(limitMs)));
  }
  async #start() {
    const transports = this.#registry.all();
    if (this.#isConnectedTwice) {
      throw new StorkConfigError(
        'connectStork() or storkMicroservice() was used twice in one application: every handler would run twice',
      );
    }
    this.#bindHandlers();
    await Promise.all(
      [...transports.values()].map(async (transport) => {
        await transport.connect();
        await transport.declare();
      }),
    );
    this.#isPrepared = true;
    this.#reminder?.();
    if (!this.#isBootstrapped) {
      this.#remind(
        'listening, but not consuming: the application has not bootstrapped; call app.init() or app.listen()',
      );
    }
    await this.#consumeIfReady();
  }
  async #consumeIfReady() {
    if (!this.#isPrepared || !this.#isBootstrapped || this.#isDraining) return;
    this.#consuming ??= Promise.all(
      [...this.#registry.all().values()].map((transport) => transport.consume()),
    ).then(() => {});
    await this.#consuming;
  }
  /** One half of the start has come; says so if the other stays away. */
  #remind(line) {
    this.#reminder?.();
    this.#reminder = this.#registry.clock.setTimer(otherHalfMs, () => this.logger.warn(line));
  }
  #bindHandlers() {
    const methods = groupByMethod(this.#explorer.join(this.#bindings), (pattern) =>
      this.normalizePattern(pattern),
    );
    const problems = checkMethods(methods, this.#registry);
    for (const [name, transport] of this.#registry.all()) {
      transport.bind(methodsOn(name, methods, this.#registry).map((bound) => this.#toHandler(name, bound)));
      problems.push(...transport.validate());
    }
    if (problems.length > 0) throw new StorkConfigError(problems);
  }
  #toHandler(transport, bound) {
    const { handler } = bound;
    const context = this.#registry.contextOf(transport);
    const plain = { transport, handler, context, withHooks: undefined };
    const hooked = { ...plain, withHooks: this.#withHooks };
    return toHandler(bound, (run) => runHandler(this.#hasHooks ? hooked : plain, run));
  }
  setOnProcessingStartHook(hook) {
    this.#hasHooks = true;
    super.setOnProcessingStartHook(hook);
  }
  setOnProcessingEndHook(hook) {
    this.#hasHooks = true;
    super.setOnProcessingEndHook(hook);
  }
  #withHooks = (context, body) => this.runWithProcessingHooks(context, body);
};
StorkServer = __decorate(
  [Injectable(), __metadata('design:paramtypes', [TransportRegistry, HandlerExplorer])],
  StorkServer,
);
export { StorkServer };
