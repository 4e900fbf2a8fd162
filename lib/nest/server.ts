import { Injectable, Logger } from '@nestjs/common';
import { Server, type CustomTransportStrategy, type MessageHandler } from '@nestjs/microservices';
import { StorkConfigError, type Problem } from '../core/errors.js';
import type { Handler } from '../core/handler-table.js';
import { checkMethods, groupByMethod, methodsOn, toHandler, type BoundMethod } from './handler-binder.js';
import { HandlerExplorer, type NestBinding } from './handler-explorer.js';
import { runHandler, type ProcessingHooks } from './run-handler.js';
import { TransportRegistry } from './transport-registry.js';

/** How long after `listen()` the application's bootstrap may stay away before we ask for it. */
const bootstrapPatienceMs = 30_000;

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
  readonly #bindings: NestBinding[] = [];
  #isConnected = false;
  #isBootstrapped = false;
  #isPrepared = false;
  #consuming: Promise<void> | undefined;
  #draining: Promise<void> | undefined;

  constructor(registry: TransportRegistry, explorer: HandlerExplorer) {
    super();
    this.#registry = registry;
    this.#explorer = explorer;
  }

  /** Called by what gives the strategy to Nest. */
  markConnected(): void {
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
    await this.#consumeIfReady();
  }

  /** Stops consuming on every transport; a second call may shorten the wait of the first. */
  async drain(limitMs: number): Promise<void> {
    const drained = Promise.all([...this.#registry.created()].map((transport) => transport.drain(limitMs)));
    this.#draining = Promise.all([this.#draining, drained]).then(() => {});
    await drained;
  }

  async #start(): Promise<void> {
    const transports = this.#registry.all();
    this.#bindHandlers();
    const limitMs = this.#registry.startTimeoutMs;
    await Promise.all(
      [...transports.values()].map(async (transport) => {
        await transport.connect(limitMs);
        await transport.declare();
      }),
    );
    this.#isPrepared = true;
    if (!this.#isBootstrapped) this.#askForBootstrap();
    await this.#consumeIfReady();
  }

  async #consumeIfReady(): Promise<void> {
    if (!this.#isPrepared || !this.#isBootstrapped || this.#draining !== undefined) return;
    this.#consuming ??= Promise.all(
      [...this.#registry.all().values()].map((transport) => transport.consume()),
    ).then(() => {});
    await this.#consuming;
  }

  #askForBootstrap(): void {
    this.#registry.clock.setTimer(bootstrapPatienceMs, () => {
      if (this.#isBootstrapped) return;
      this.logger.warn(
        'listening, but not consuming: the application has not bootstrapped; call app.init() or app.listen()',
      );
    });
  }

  #bindHandlers(): void {
    const methods = groupByMethod(this.#explorer.join(this.#bindings), (pattern) =>
      this.normalizePattern(pattern as never),
    );
    const problems: Problem[] = checkMethods(methods, this.#registry);
    for (const [name, transport] of this.#registry.all()) {
      transport.bind(methodsOn(name, methods, this.#registry).map((bound) => this.#toHandler(name, bound)));
      problems.push(...transport.validate());
    }
    if (problems.length > 0) throw new StorkConfigError(problems);
  }

  #toHandler(transport: string, bound: BoundMethod): Handler {
    return toHandler(bound, (run) => runHandler(transport, bound.handler, run, this.#withHooks));
  }

  readonly #withHooks: ProcessingHooks = (context, body) => this.runWithProcessingHooks(context, body);
}
