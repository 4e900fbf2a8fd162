import {
  Injectable,
  Logger,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleDestroy,
  type OnModuleInit,
} from '@nestjs/common';
import { ApplicationConfig, ModulesContainer } from '@nestjs/core';
import { StorkConfigError } from '../../core/runtime/errors.js';
import { HandlerExplorer } from '../server/handler-explorer.js';
import { StorkServer } from '../server/stork.server.js';
import { TransportRegistry } from './transport-registry.js';

/** The connections get this long to flush and close. */
const closeTimeoutMs = 5_000;

const globals = {
  useGlobalPipes: 'getGlobalPipes',
  useGlobalGuards: 'getGlobalGuards',
  useGlobalInterceptors: 'getGlobalInterceptors',
  useGlobalFilters: 'getGlobalFilters',
} as const;
type GlobalsCount = Record<keyof typeof globals, number>;

/**
 * Ties the transports to Nest's hooks: checks at module init, consumes after everybody's bootstrap, drains before anybody's destroy,
 * closes at the very end, when nobody sends any more.
 */
@Injectable()
export class StorkLifecycle
  implements OnModuleInit, OnApplicationBootstrap, OnModuleDestroy, OnApplicationShutdown
{
  readonly #registry: TransportRegistry;
  readonly #server: StorkServer;
  readonly #explorer: HandlerExplorer;
  readonly #config: ApplicationConfig;
  readonly #logger = new Logger('Stork');
  #atConnect: GlobalsCount | undefined;

  constructor(
    registry: TransportRegistry,
    server: StorkServer,
    explorer: HandlerExplorer,
    config: ApplicationConfig,
    modules: ModulesContainer,
  ) {
    this.#registry = registry;
    this.#server = server;
    this.#explorer = explorer;
    this.#config = config;
    // Nest runs hooks by distance from the root, and a global module's are destroyed last, when the databases are closed. Below 0 we
    // bootstrap after everybody and are destroyed before everybody.
    for (const module of modules.values()) if (module.providers.has(StorkLifecycle)) module.distance = -1;
  }

  onModuleInit(): void {
    this.#registry.all();
    const idle = this.#explorer.idlePolicies();
    if (idle.length > 0) throw new StorkConfigError(idle);
  }

  async onApplicationBootstrap(): Promise<void> {
    if (this.#atConnect !== undefined) this.#refuseLateGlobals(this.#atConnect);
    if (!this.#server.isConnected) this.#warnOfUnserved();
    await this.#server.bootstrapped();
  }

  async onModuleDestroy(): Promise<void> {
    await this.#server.drain(this.#registry.drainTimeoutMs);
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all([...this.#registry.created()].map((transport) => transport.close(closeTimeoutMs)));
    await this.#registry.closeStores(closeTimeoutMs);
  }

  /** Remembers what a hybrid application's microservice has inherited: Nest binds handlers at that moment. */
  connectedInheriting(): void {
    this.#atConnect = this.#countGlobals();
  }

  #countGlobals(): GlobalsCount {
    const counts = Object.entries(globals).map(
      ([name, getter]) => [name, this.#config[getter]().length] as const,
    );
    return Object.fromEntries(counts) as GlobalsCount;
  }

  #refuseLateGlobals(before: GlobalsCount): void {
    const now = this.#countGlobals();
    const late = (Object.keys(globals) as (keyof GlobalsCount)[]).filter((name) => now[name] > before[name]);
    if (late.length === 0) return;
    throw new StorkConfigError(
      `${late.map((name) => `${name}()`).join(' and ')} was called after connectStork(app): message handlers would run without it; ` +
        'call connectStork(app) after every app.useGlobal…()',
    );
  }

  #warnOfUnserved(): void {
    const places = this.#explorer.ours().map(({ place }) => place);
    if (places.length === 0) return;
    this.#logger.warn(
      `no strategy is connected, so these handlers receive nothing: ${places.join(', ')}; ` +
        'use NestFactory.createMicroservice(AppModule, storkMicroservice()) or connectStork(app)',
    );
  }
}
