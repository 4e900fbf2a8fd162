import { Module, type DynamicModule, type Provider } from '@nestjs/common';
import { systemClock } from '../core/runtime/clock.js';
import { StorkConfigError } from '../core/runtime/errors.js';
import { StorkClient } from './client/stork.client.js';
import { HandlerExplorer } from './server/handler-explorer.js';
import { DeadLetterService } from './dead-letter/dead-letter.service.js';
import { getClientToken } from './client/inject-client.decorator.js';
import { StorkLifecycle } from './bootstrap/lifecycle.js';
import { nestCoreProvider } from './bootstrap/nest-core.js';
import type {
  NamedTransports,
  StorkModuleAsyncOptions,
  StorkModuleOptions,
  StorkOptionsFactory,
} from './stork-options.js';
import { StorkServer } from './server/stork.server.js';
import { StorkService } from './stork.service.js';
import {
  STORK_CLOCK,
  STORK_DECLARED_TRANSPORTS,
  STORK_FEATURE,
  STORK_OPTIONS,
  STORK_SERVER,
} from './stork.constants.js';
import { TransportRegistry } from './bootstrap/transport-registry.js';
import { requireNest, requireNode } from './validation/versions.js';

/**
 * Provides the transports, their clients, `StorkService` and `DeadLetterService`. Import `forRoot()` once in
 * an application; feature modules add transports by `forFeature()`.
 *
 * @publicApi
 */
@Module({})
export class StorkModule {
  /**
   * Configures the transports. The options are validated when the application starts: `app.listen()` or
   * `app.startAllMicroservices()` rejects with one `StorkConfigError` that lists every problem.
   *
   * Each call creates a separate module, and two of them in one application are an error: if several
   * modules import it, keep the result in a constant.
   */
  static forRoot(options: StorkModuleOptions): DynamicModule {
    const names = Object.keys(options?.transports ?? {});
    return assemble(names, options?.isGlobal, [{ provide: STORK_OPTIONS, useValue: options ?? null }]);
  }

  /**
   * Like `forRoot()`, with options from a factory that may inject providers. `transports` lists the names
   * of the transports that the factory returns.
   */
  static forRootAsync(options: StorkModuleAsyncOptions): DynamicModule {
    const providers = [...optionsProviders(options), ...(options.extraProviders ?? [])];
    return assemble(options.transports ?? [], options.isGlobal, providers, options.imports);
  }

  /**
   * Adds the transports of a feature module to those of `forRoot()`, whose options and policies hold for them
   * too. Like these they serve the handlers of all modules, unless `via()` or `handlers` says otherwise, and
   * their clients are injectable in all modules. The order of imports does not matter.
   *
   * Names must be unique in the application, and `forRoot()` must be global. The application starts with
   * all of them: a module that is loaded lazily can add none.
   *
   * @example
   * ```ts
   * @Module({ imports: [StorkModule.forFeature({ billing: kafka({ brokers, groupId: 'billing' }) })] })
   * export class BillingModule {}
   * ```
   */
  static forFeature(transports: NamedTransports): DynamicModule {
    const clients = Object.keys(transports ?? {}).map(featureClientProvider);
    return {
      module: StorkModule,
      global: true,
      providers: [{ provide: STORK_FEATURE, useValue: transports ?? null }, ...clients],
      exports: clients.map(({ provide }) => provide),
    };
  }
}

function assemble(
  names: readonly string[],
  isGlobal: boolean | undefined,
  optionsSource: readonly Provider[],
  imports: DynamicModule['imports'] = [],
): DynamicModule {
  requireNode();
  requireNest();
  const clients = clientProviders(names);
  return {
    module: StorkModule,
    global: isGlobal ?? true,
    imports,
    providers: [
      ...optionsSource,
      { provide: STORK_DECLARED_TRANSPORTS, useValue: names },
      { provide: STORK_CLOCK, useValue: systemClock },
      nestCoreProvider,
      TransportRegistry,
      HandlerExplorer,
      StorkServer,
      StorkLifecycle,
      { provide: STORK_SERVER, useExisting: StorkServer },
      StorkService,
      DeadLetterService,
      ...clients,
    ],
    // For the clients of feature modules.
    exports: [TransportRegistry, StorkService, DeadLetterService, ...clients.map(({ provide }) => provide)],
  };
}

/** One client for each transport. With a single one in `forRoot()`, `StorkClient` is an alias. */
function clientProviders(names: readonly string[]) {
  const clients = names.map((name) => ({
    provide: getClientToken(name),
    useFactory: (registry: TransportRegistry) => new StorkClient(registry, name),
    inject: [TransportRegistry],
  }));
  const alias = names.length === 1 ? [{ provide: StorkClient, useExisting: getClientToken(names[0]!) }] : [];
  return [...clients, ...alias];
}

/** The registry is optional for Nest, whose own error would name a class of this library. */
function featureClientProvider(name: string) {
  return {
    provide: getClientToken(name),
    useFactory: (registry?: TransportRegistry) => {
      if (registry !== undefined) return new StorkClient(registry, name);
      throw new StorkConfigError(
        `StorkModule.forFeature({ ${name} }) needs StorkModule.forRoot(…) in the root module, and its isGlobal not false`,
      );
    },
    inject: [{ token: TransportRegistry, optional: true }],
  };
}

function optionsProviders({
  useFactory,
  inject,
  useClass,
  useExisting,
}: StorkModuleAsyncOptions): Provider[] {
  if (useFactory !== undefined) return [{ provide: STORK_OPTIONS, useFactory, inject: inject ?? [] }];
  const factory = useExisting ?? useClass;
  if (factory === undefined) return [{ provide: STORK_OPTIONS, useValue: null }];
  const fromFactory: Provider = {
    provide: STORK_OPTIONS,
    useFactory: (instance: StorkOptionsFactory) => instance.createStorkOptions(),
    inject: [factory],
  };
  return useExisting === undefined ? [fromFactory, factory] : [fromFactory];
}
