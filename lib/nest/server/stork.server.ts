import { Injectable, Logger } from '@nestjs/common';
import {
  Server,
  type CustomTransportStrategy,
  type MessageHandler,
  type Transport,
} from '@nestjs/microservices';
import type { ApplicationConfig } from '@nestjs/core';
import { combineLatest } from 'rxjs';
import { worstState, type ConnectionState } from '../../core/port/connection-state.js';
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
import { ConnectionEvents, type StorkEvents } from '../bootstrap/connection-events.js';
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
export class StorkServer
  extends Server<StorkEvents, ConnectionState['value']>
  implements CustomTransportStrategy
{
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
  readonly #events = new ConnectionEvents();
  /** How often Nest has taken the strategy. */
  #connections = 0;
  /** `prepared`: connected and declared. A start that has failed stays `listening`, and may be repeated. */
  #state: 'idle' | 'listening' | 'prepared' | 'draining' = 'idle';
  #isBootstrapped = false;
  #startupWarning: CancelTimer | undefined;
  #consuming: Promise<void> | undefined;

  constructor(registry: TransportRegistry, explorer: HandlerExplorer, nest: NestCore) {
    super();
    recordOriginalErrors();
    this.#registry = registry;
    this.#explorer = explorer;
    this.#nest = nest;
    this._status$.next('idle');
    const states = registry.names.map((name) => registry.statesOf(name));
    combineLatest(states).subscribe((all) => this._status$.next(worstState(all)?.value ?? 'idle'));
    for (const name of registry.names) this.#events.follow(name, registry.statesOf(name));
  }

  /** Called by `storkMicroservice()` when Nest takes the strategy. */
  markConnected(): void {
    this.#connections++;
  }

  get isConnected(): boolean {
    return this.#connections > 0;
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
    this.#list(pattern, handler, isEvent, extras);
  }

  /**
   * Adds the handler to those of `getHandlers()`. Nest reads a handler's `next` when it calls the handler, so
   * the listed function is another one.
   */
  #list(pattern: unknown, handler: MessageHandler, isEventHandler: boolean, extras: object): void {
    const route = pattern instanceof RegExp ? String(pattern) : this.normalizePattern(pattern as never);
    const listed: MessageHandler = Object.assign((...args: Parameters<MessageHandler>) => handler(...args), {
      isEventHandler,
      extras,
    });
    let last = this.messageHandlers.get(route);
    if (last === undefined) this.messageHandlers.set(route, listed);
    while (last?.next !== undefined) last = last.next;
    if (last !== undefined) last.next = listed;
  }

  /** Before the handlers are bound anew. */
  forgetHandlers(): void {
    this.#bindings = [];
    this.messageHandlers.clear();
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
    shutdown.begin();
    for (const start of this.#starts?.values() ?? []) start.stop();
    return this.drain(shutdown.handlersMs);
  }

  override on<E extends keyof StorkEvents>(event: E, listener: StorkEvents[E]): void {
    this.#events.on(event, listener);
  }

  /**
   * The broker's own client, as `client.unwrap()` gives it. With several transports an object of them, by the
   * transports' names.
   *
   * @throws ConnectionLostError before `listen()`, and while a transport is not connected
   * @throws ClientClosedError once the application is closed
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's abstract signature
  override unwrap<T>(): T {
    const clients = [...this.#registry.all()].map(([name, transport]) => [name, transport.unwrap()] as const);
    return (clients.length === 1 ? clients[0]![1] : Object.fromEntries(clients)) as T;
  }

  /** Called by `StorkLifecycle` after the `onApplicationBootstrap` hooks of all other modules. */
  async bootstrapped(): Promise<void> {
    this.#startupWarning?.();
    this.#hybrid?.assertAllBound();
    this.#isBootstrapped = true;
    this.#bootstrap.resolve();
    if (this.isConnected && this.#state === 'idle') {
      this.#warnLater(
        'handlers receive nothing: the microservices were not started; ' +
          'call app.startAllMicroservices() of a hybrid application, or app.listen() of a worker',
      );
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
    this.#state = 'draining';
    this.#startupWarning?.();
    const leave = async (transport: StorkTransport): Promise<void> => {
      await transport.drain(limitMs);
      await transport.leave(this.#registry.shutdown.stepMs);
    };
    await Promise.allSettled([...this.#registry.created()].map(leave));
  }

  async #start(): Promise<void> {
    if (this.#state === 'idle') this.#state = 'listening';
    this.#startupWarning?.();
    this.#throwIfClosing();
    const starts = [...this.#transportStarts().values()];
    if (this.#connections > 1) {
      throw new StorkConfigError(
        'connectStork() or storkMicroservice() was used twice in one application: every handler would be called twice',
      );
    }
    this.#bindHandlers();
    await this.#prepare(starts.filter(({ isRequired }) => isRequired));
    this.#throwIfClosing();
    for (const start of starts) if (!start.isRequired) void start.runInBackground(this.#bootstrap.promise);
    if (this.#state === 'listening') this.#state = 'prepared';
    if (!this.#isBootstrapped) {
      this.#warnLater(
        'listening, but not consuming: the application has not bootstrapped; call app.init() or app.listen()',
      );
    }
    await this.#consumeIfReady();
  }

  /** Connects and declares. One transport that cannot ends the attempts of the others. */
  async #prepare(starts: readonly TransportStart[]): Promise<void> {
    try {
      await Promise.all(starts.map((start) => start.prepare()));
    } catch (error) {
      for (const start of starts) start.stopConnecting();
      throw error;
    }
  }

  async #consumeIfReady(): Promise<void> {
    if (this.#state !== 'prepared' || !this.#isBootstrapped) return;
    this.#consuming ??= this.#consume();
    try {
      await this.#consuming;
    } catch (error) {
      this.#consuming = undefined;
      throw error;
    }
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
    if (this.#registry.shutdown.hasBegun)
      throw new ClientClosedError('the application was closed while it started');
  }

  /** Logs `line` unless the missing half of the start, `listen()` or the bootstrap, happens in time. */
  #warnLater(line: string): void {
    if (this.#state === 'draining') return;
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
      ...this.#explorer.handlersWithoutPattern(),
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
