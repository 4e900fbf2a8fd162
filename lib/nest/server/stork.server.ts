import { Injectable, Logger } from '@nestjs/common';
import { ApplicationConfig, ModulesContainer } from '@nestjs/core';
import { Server, type CustomTransportStrategy, type MessageHandler } from '@nestjs/microservices';
import type { CancelTimer } from '../../core/runtime/clock.js';
import { enableCorrelationTracking } from '../../core/publish/correlation-context.js';
import { resolveDeadLetter } from '../../core/dead-letter/dead-letter-options.js';
import { StorkConfigError, type ConfigProblem } from '../../core/runtime/errors.js';
import type { Handler } from '../../core/consume/handler.js';
import { injectsClient } from '../client/client-injection.js';
import {
  checkMethods,
  groupByMethod,
  methodsOn,
  toHandler,
  type BoundMethod,
  type HandlerSurroundings,
} from './handler-binder.js';
import { recordOriginalErrors } from './error-recorder.js';
import { HandlerExplorer, type NestBinding } from './handler-explorer.js';
import {
  checkLayers,
  layersOfInterceptors,
  soundOptions,
  type BoundPolicyOptions,
} from '../decorators/policy-metadata.js';
import { runHandler, type ProcessingHooks } from './call-handler.js';
import { TransportRegistry } from '../bootstrap/transport-registry.js';

/** How long after `listen()` the bootstrap may stay away, or the other way round, before we ask for it. */
const otherHalfMs = 30_000;

/**
 * Nest's strategy for every transport of the module. It connects and declares in `listen()` and consumes once the application has
 * bootstrapped: handlers must not run before the providers that they use are ready.
 */
@Injectable()
export class StorkServer extends Server implements CustomTransportStrategy {
  /** We await the handlers' streams and log their failures; Nest need not. */
  override readonly propagatesEventHandlerErrors = true;
  protected override readonly logger = new Logger('Stork');
  readonly #registry: TransportRegistry;
  readonly #explorer: HandlerExplorer;
  readonly #config: ApplicationConfig;
  readonly #modules: ModulesContainer;
  readonly #bindings: NestBinding[] = [];
  #hasHooks = false;
  #isConnected = false;
  #isConnectedTwice = false;
  #reminder: CancelTimer | undefined;
  #isBootstrapped = false;
  #isPrepared = false;
  #consuming: Promise<void> | undefined;
  #isDraining = false;

  constructor(
    registry: TransportRegistry,
    explorer: HandlerExplorer,
    config: ApplicationConfig,
    modules: ModulesContainer,
  ) {
    super();
    recordOriginalErrors();
    this.#modules = modules;
    this.#registry = registry;
    this.#explorer = explorer;
    this.#config = config;
  }

  /** Called by what gives the strategy to Nest. */
  markConnected(): void {
    if (this.#isConnected) this.#isConnectedTwice = true;
    this.#isConnected = true;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  /**
   * Takes every binding as it comes: several handlers of one event settle by themselves, where Nest would chain them so that one that
   * fails cancels the others.
   */
  override addHandler(pattern: unknown, handler: MessageHandler, isEvent = false, extras: object = {}): void {
    this.#bindings.push({ pattern, handler, isEvent, extras });
  }

  override listen(callback: (error?: unknown) => void): void {
    this.#start().then(() => callback(), callback);
  }

  /** Idempotent last resort; a worker's `app.close()` comes here before any hook. Connections end with the application's shutdown. */
  override close(): Promise<void> {
    return this.drain(this.#registry.drainTimeoutMs);
  }

  override on(): never {
    throw new Error('StorkServer emits no events; subscribe to StorkService.state() instead');
  }

  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- Nest's abstract signature
  override unwrap<T>(): T {
    return this.#registry.all() as T;
  }

  /** Called by the lifecycle once every provider is ready. */
  async bootstrapped(): Promise<void> {
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
  async drain(limitMs: number): Promise<void> {
    this.#isDraining = true;
    this.#reminder?.();
    await Promise.allSettled([...this.#registry.created()].map((transport) => transport.drain(limitMs)));
  }

  async #start(): Promise<void> {
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

  async #consumeIfReady(): Promise<void> {
    if (!this.#isPrepared || !this.#isBootstrapped || this.#isDraining) return;
    this.#consuming ??= Promise.all(
      [...this.#registry.all().values()].map((transport) => transport.consume()),
    ).then(() => {});
    await this.#consuming;
  }

  /** One half of the start has come; says so if the other stays away. */
  #remind(line: string): void {
    this.#reminder?.();
    this.#reminder = this.#registry.clock.setTimer(otherHalfMs, () => this.logger.warn(line));
  }

  #bindHandlers(): void {
    if (injectsClient(this.#modules, this.#registry.names)) enableCorrelationTracking();
    const global = layersOfInterceptors(this.#config.getGlobalInterceptors(), 'the application');
    const methods = groupByMethod(this.#explorer.join(this.#bindings), (pattern) =>
      this.normalizePattern(pattern as never),
    );
    const problems: ConfigProblem[] = [...checkMethods(methods, this.#registry), ...checkLayers(global)];
    const sound = soundOptions(global);
    for (const [name, transport] of this.#registry.all()) {
      const served = methodsOn(name, methods, this.#registry);
      const { deadLetter } = this.#registry.policiesOf(name);
      transport.bind(
        served.map((method) => this.#toHandler(name, method, sound)),
        resolveDeadLetter(...deadLetter, ...sound.deadLetter),
      );
      problems.push(...transport.validate());
    }
    if (problems.length > 0) throw new StorkConfigError(problems);
  }

  #toHandler(transport: string, bound: BoundMethod, global: BoundPolicyOptions): Handler {
    const { handler } = bound;
    const context = this.#registry.contextOf(transport);
    const surroundings: HandlerSurroundings = {
      base: this.#registry.policiesOf(transport),
      global,
      store: () => this.#registry.idempotencyStoreOf(transport),
      newContext: (run) => new context(transport, run),
    };
    const plain = { transport, handler, context, withHooks: undefined };
    const hooked = { ...plain, withHooks: this.#withHooks };
    return toHandler(bound, surroundings, (run) => runHandler(this.#hasHooks ? hooked : plain, run));
  }

  override setOnProcessingStartHook(hook: Parameters<Server['setOnProcessingStartHook']>[0]): void {
    this.#hasHooks = true;
    super.setOnProcessingStartHook(hook);
  }

  override setOnProcessingEndHook(hook: Parameters<Server['setOnProcessingEndHook']>[0]): void {
    this.#hasHooks = true;
    super.setOnProcessingEndHook(hook);
  }

  readonly #withHooks: ProcessingHooks = (context, body) => this.runWithProcessingHooks(context, body);
}
