import {
  Injectable,
  Logger,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleDestroy,
  type OnModuleInit,
} from '@nestjs/common';
import { StorkConfigError } from '../../core/runtime/errors.js';
import { HandlerExplorer } from '../server/handler-explorer.js';
import { StorkServer } from '../server/stork.server.js';
import { NestCore } from './nest-core.js';
import { TransportRegistry } from './transport-registry.js';

/**
 * Ties the transports to Nest's lifecycle hooks:
 *
 * - `onModuleInit` validates the options.
 * - `onApplicationBootstrap`, after the hooks of all other modules, starts consuming: handlers may use any
 *   provider.
 * - `onModuleDestroy`, before the hooks of all other modules, drains: no handler runs when databases are
 *   closed.
 * - `onApplicationShutdown` closes the connections: until then `onModuleDestroy` hooks may still send.
 *
 * Both steps of the shutdown share the deadline that the first one sets.
 */
@Injectable()
export class StorkLifecycle
  implements OnModuleInit, OnApplicationBootstrap, OnModuleDestroy, OnApplicationShutdown
{
  readonly #registry: TransportRegistry;
  readonly #server: StorkServer;
  readonly #explorer: HandlerExplorer;
  readonly #logger = new Logger('Stork');

  constructor(registry: TransportRegistry, server: StorkServer, explorer: HandlerExplorer, nest: NestCore) {
    this.#registry = registry;
    this.#server = server;
    this.#explorer = explorer;
    // Nest orders hooks by a module's distance from the root module and destroys global modules last, when
    // databases are closed already. A distance below 0 makes this module bootstrap last and be destroyed
    // first.
    for (const module of nest.modules.values())
      if (module.providers.has(StorkLifecycle)) module.distance = -1;
  }

  onModuleInit(): void {
    this.#registry.all();
    const unused = this.#explorer.unusedPolicies();
    if (unused.length > 0) throw new StorkConfigError(unused);
  }

  async onApplicationBootstrap(): Promise<void> {
    if (!this.#server.isConnected) this.#warnNotConnected();
    await this.#server.bootstrapped();
  }

  async onModuleDestroy(): Promise<void> {
    await this.#server.close();
  }

  async onApplicationShutdown(): Promise<void> {
    const { shutdown } = this.#registry;
    const closeLimitMs = shutdown.stepMs;
    await Promise.all([...this.#registry.created()].map((transport) => transport.close(closeLimitMs)));
    await this.#registry.closeStores(shutdown.lastStepMs);
  }

  #warnNotConnected(): void {
    const names = this.#explorer.storkMethods().map(({ name }) => name);
    if (names.length === 0) return;
    this.#logger.warn(
      `no strategy is connected, so these handlers receive nothing: ${names.join(', ')}; ` +
        'use NestFactory.createMicroservice(AppModule, storkMicroservice()) or connectStork(app)',
    );
  }
}
