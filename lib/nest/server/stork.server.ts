import { Injectable, Logger } from '@nestjs/common';
import {
  Server,
  type CustomTransportStrategy,
  type MessageHandler,
  type Transport,
} from '@nestjs/microservices';
import type { ApplicationConfig } from '@nestjs/core';
import type { CancelTimer } from '../../core/runtime/clock.js';
import { withResolvers } from '../../core/runtime/with-timeout.js';
import { resolveDeadLetter } from '../../core/dead-letter/dead-letter-options.js';
import {
  ClientClosedError,
  messageOf,
  StorkConfigError,
  type ConfigProblem,
} from '../../core/runtime/errors.js';
import type { Handler } from '../../core/consume/handler.js';
import type { StorkTransport } from '../../core/stork-transport.js';
import { mayObtainClient } from '../client/client-injection.js';
import {
  validateMethods,
  groupByMethod,
  correlationHeadersOf,
  methodsOn,
  toHandler,
  type BoundMethod,
  type HandlerDefaults,
} from './handler-binder.js';
import { findGlobalInterceptors } from '../interceptors/bound-interceptors.js';
import { HandlerExplorer, type NestBinding } from './handler-explorer.js';
import {
  validateLayers,
  layersOfInterceptors,
  validOptions,
  type BoundPolicyOptions,
} from '../decorators/policy-metadata.js';
import { recordOriginalErrors, toRun, type HookSettings, type ProcessingHooks } from './call-handler.js';
import { HybridEnhancers } from '../bootstrap/hybrid-enhancers.js';
import { NestCore } from '../bootstrap/nest-core.js';
import { TransportRegistry } from '../bootstrap/transport-registry.js';
import { TransportStart } from '../bootstrap/transport-start.js';

/**
 * Time between `listen()` and the application's bootstrap, in either order, after which a warning is
 * logged.
 */
const startupWarningMs = 30_000;

type StartHook = (transportId: Transport | symbol, context: unknown, done: () => Promise<unknown>) => void;
type EndHook = (transportId: Transport | symbol, context: unknown) => void;

/**
 * The microservice strategy of all transports of the module. `listen()` connects and declares. Consuming
 * starts after the application's bootstrap, because a handler must not run before the
 * `onApplicationBootstrap` hooks of the providers that it uses.
 */
@Injectable()
export class StorkServer extends Server implements CustomTransportStrategy {
  /** The transport subscribes to the handlers' Observables and handles their errors, so Nest must not. */
  override readonly propagatesEventHandlerErrors = true;
  protected override readonly logger = new Logger('Stork');
  readonly #registry: TransportRegistry;
  readonly #explorer: HandlerExplorer;
  readonly #nest: NestCore;
  #bindings: NestBinding[] = [];
  readonly #hooks: HookSettings = { around: undefined };
  #startHook: StartHook | undefined;
  #endHook: EndHook | undefined;
  /** Undefined in a worker, and in a hybrid application without `connectStork()`. */
  #hybrid: HybridEnhancers | undefined;
  #starts: ReadonlyMap<string, TransportStart> | undefined;
  readonly #bootstrap = withResolvers<void>();
  #servesHandlers = false;
  #isConnected = false;
  #isConnectedTwice = false;
  #startupWarning: CancelTimer | undefined;
  #isBootstrapped = false;
  #isListening = false;
  #isPrepared = false;
  #consuming: Promise<void> | undefined;
  #isDraining = false;
  #isClosing = false;

  constructor(registry: TransportRegistry, explorer: HandlerExplorer, nest: NestCore) {
    super();
    recordOriginalErrors();
    this.#registry = registry;
    this.#explorer = explorer;
    this.#nest = nest;
  }

  /** Called by `storkMicroservice()` when Nest takes the strategy. */
  markConnected(): void {
    if (this.#isConnected) this.#isConnectedTwice = true;
    this.#isConnected = true;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** Called by `connectStork()`. @param microservice of the application, if it is inherited */
  serveHybrid(microservice: ApplicationConfig): void {
    this.#hybrid = new HybridEnhancers(this.#nest.config, microservice);
  }

  /** What `StorkService.state()` shows of the start of a transport. */
  startOf(name: string) {
    const { isRequired, isStarted, error } = this.#transportStarts().get(name)!;
    return { required: isRequired, started: isStarted, startError: error };
  }

  /**
   * Records every binding separately. Nest's own `addHandler` chains several handlers of one event, so
   * that a failing handler cancels the others; here each is settled on its own.
   */
  override addHandler(pattern: unknown, handler: MessageHandler, isEvent = false, extras: object = {}): void {
    this.#bindings.push({ pattern, handler, isEvent, extras });
  }

  /** Before the handlers are bound anew. */
  forgetHandlers(): void {
    this.#bindings = [];
  }

  override listen(callback: (error?: unknown) => void): void {
    this.#start().then(() => callback(), callback);
  }

  /**
   * Begins the shutdown and drains; idempotent. In a worker Nest calls this before the shutdown hooks.
   * `StorkLifecycle` closes the connections in `onApplicationShutdown`.
   */
  override close(): Promise<void> {
    const { shutdown } = this.#registry;
    this.#isClosing = true;
    shutdown.begin();
    for (const start of this.#starts?.values() ?? []) start.stop();
    return this.drain(shutdown.handlersMs);
  }

  override on(): never {
    throw new Error('StorkServer emits no events; read StorkService.state() instead');
  }

  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's abstract signature
  override unwrap<T>(): T {
    return this.#registry.all() as T;
  }

  /** Called by `StorkLifecycle` after the `onApplicationBootstrap` hooks of all other modules. */
  async bootstrapped(): Promise<void> {
    this.#hybrid?.assertAllBound();
    this.#isBootstrapped = true;
    this.#bootstrap.resolve();
    if (this.#isConnected && !this.#isListening) {
      this.#warnLater(
        'handlers receive nothing: the microservices were not started; call app.startAllMicroservices()',
      );
    } else {
      this.#startupWarning?.();
    }
    await this.#consumeIfReady();
  }

  /**
   * Stops consuming on every transport and leaves its source. A second call can only shorten the time
   * limits of the first.
   *
   * @param limitMs how long handlers may run
   */
  async drain(limitMs: number): Promise<void> {
    this.#isDraining = true;
    this.#startupWarning?.();
    const leave = async (transport: StorkTransport): Promise<void> => {
      await transport.drain(limitMs);
      await transport.leave(this.#registry.shutdown.stepMs);
    };
    await Promise.allSettled([...this.#registry.created()].map(leave));
  }

  async #start(): Promise<void> {
    this.#isListening = true;
    this.#startupWarning?.();
    this.#throwIfClosing();
    const starts = [...this.#transportStarts().values()];
    if (this.#isConnectedTwice) {
      throw new StorkConfigError(
        'connectStork() or storkMicroservice() was used twice in one application: every handler would be called twice',
      );
    }
    this.#bindHandlers();
    await Promise.all(starts.filter(({ isRequired }) => isRequired).map((start) => start.prepare()));
    this.#throwIfClosing();
    for (const start of starts) if (!start.isRequired) void start.runInBackground(this.#bootstrap.promise);
    this.#isPrepared = true;
    if (!this.#isBootstrapped) {
      this.#warnLater(
        'listening, but not consuming: the application has not bootstrapped; call app.init() or app.listen()',
      );
    }
    await this.#consumeIfReady();
  }

  async #consumeIfReady(): Promise<void> {
    if (!this.#isPrepared || !this.#isBootstrapped || this.#isDraining) return;
    this.#consuming ??= this.#consume();
    await this.#consuming;
  }

  async #consume(): Promise<void> {
    const advice = this.#servesHandlers ? this.#hybrid?.advice() : undefined;
    if (advice !== undefined) this.logger.warn(advice);
    const starts = [...this.#transportStarts().values()];
    await Promise.all(starts.filter(({ isRequired }) => isRequired).map((start) => start.consume()));
  }

  /** Of all transports; created on the first call. */
  #transportStarts(): ReadonlyMap<string, TransportStart> {
    const { clock } = this.#registry;
    this.#starts ??= new Map(
      [...this.#registry.all()].map(([name, transport]) => {
        const isRequired = this.#registry.isRequired(name);
        return [name, new TransportStart({ transport, isRequired, clock, logger: this.logger })];
      }),
    );
    return this.#starts;
  }

  #throwIfClosing(): void {
    if (this.#isClosing) throw new ClientClosedError('the application was closed while it started');
  }

  /** Logs `line` unless the missing half of the start, `listen()` or the bootstrap, happens in time. */
  #warnLater(line: string): void {
    if (this.#isDraining) return;
    this.#startupWarning = this.#registry.clock.setTimer(startupWarningMs, () => this.logger.warn(line));
  }

  #bindHandlers(): void {
    if (mayObtainClient(this.#nest.modules, this.#registry.names))
      this.#registry.correlation.isEnabled = true;
    const { config } = this.#nest;
    const globals = findGlobalInterceptors(
      this.#hybrid?.interceptors ?? config.getGlobalInterceptors(),
      config.getGlobalRequestInterceptors(),
    );
    const globalLayers = layersOfInterceptors(globals, 'the application');
    const methods = groupByMethod(this.#explorer.join(this.#bindings), (pattern) =>
      this.normalizePattern(pattern as never),
    );
    const problems: ConfigProblem[] = [
      ...validateMethods(methods, this.#registry),
      ...validateLayers(globalLayers),
    ];
    const global = validOptions(globalLayers);
    for (const [name, transport] of this.#registry.all()) {
      const served = methodsOn(name, methods, this.#registry);
      this.#servesHandlers ||= served.length > 0;
      const { deadLetter } = this.#registry.policiesOf(name);
      transport.bind(
        served.map((method) => this.#toHandler(name, method, global)),
        resolveDeadLetter(...deadLetter, ...global.deadLetter),
      );
      problems.push(...transport.validate());
    }
    if (problems.length > 0) throw new StorkConfigError(problems);
    this.#hybrid?.markBound();
  }

  #toHandler(transport: string, bound: BoundMethod, global: BoundPolicyOptions): Handler {
    const { handler } = bound;
    const context = this.#registry.contextOf(transport);
    const correlationHeaders = correlationHeadersOf(bound, global);
    const correlation = correlationHeaders === undefined ? this.#registry.correlation : { isEnabled: true };
    const defaults: HandlerDefaults = {
      base: this.#registry.policiesOf(transport),
      global,
      store: () => this.#registry.idempotencyStoreOf(transport),
      newContext: (attempt) => new context(transport, attempt, correlationHeaders),
    };
    const hooks = this.#hooks;
    return toHandler(
      bound,
      defaults,
      toRun({ transport, handler, context, correlationHeaders, correlation, hooks }),
    );
  }

  override setOnProcessingStartHook(hook: StartHook): void {
    this.#startHook = hook;
    this.#hooks.around = this.#withHooks;
  }

  override setOnProcessingEndHook(hook: EndHook): void {
    this.#endHook = hook;
    this.#hooks.around = this.#withHooks;
  }

  /** `Server.runWithProcessingHooks` exists only in Nest 12. */
  readonly #withHooks: ProcessingHooks = (context, body) => {
    const runEndHook = (): void => this.#endHook?.(this.transportId!, context);
    const run = (): Promise<void> => body(() => this.#runGuarded(runEndHook));
    return this.#startHook === undefined ? run() : this.#startHook(this.transportId!, context, run);
  };

  /** A start hook that does not return the promise of `done()` would make an error an unhandled rejection. */
  #runGuarded(runEndHook: () => void): void {
    try {
      runEndHook();
    } catch (error) {
      this.logger.error(`the processing end hook failed: ${messageOf(error)}`);
    }
  }
}
