import { Module, type DynamicModule, type Provider } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { systemClock } from '../core/runtime/clock.js';
import { StorkClient } from './client/stork.client.js';
import { HandlerExplorer } from './server/handler-explorer.js';
import { DeadLetterService } from './dead-letter/dead-letter.service.js';
import { getClientToken } from './client/inject-client.decorator.js';
import { StorkLifecycle } from './bootstrap/lifecycle.js';
import type { StorkModuleAsyncOptions, StorkModuleOptions, StorkOptionsFactory } from './stork-options.js';
import { StorkServer } from './server/stork.server.js';
import { StorkService } from './stork.service.js';
import { STORK_CLOCK, STORK_DECLARED_TRANSPORTS, STORK_OPTIONS } from './stork.constants.js';
import { TransportRegistry } from './bootstrap/transport-registry.js';

/**
 * Everything that the library provides. Import it once, with all transports in it.
 *
 * @publicApi
 */
@Module({})
export class StorkModule {
  /**
   * Records the transports; they are checked when the application starts, so that a mistake rejects `app.listen()` or
   * `app.startAllMicroservices()` with one `StorkConfigError` that lists everything.
   *
   * Each call makes a module of its own: keep the result in a constant where several modules import it.
   */
  static forRoot(options: StorkModuleOptions): DynamicModule {
    const names = Object.keys(options?.transports ?? {});
    return assemble(names, options?.isGlobal, [{ provide: STORK_OPTIONS, useValue: options ?? null }]);
  }

  /** Like `forRoot()`, with options made by a factory that may inject. `transports` names what it will return. */
  static forRootAsync(options: StorkModuleAsyncOptions): DynamicModule {
    const providers = [...optionsProviders(options), ...(options.extraProviders ?? [])];
    return assemble(options.transports ?? [], options.isGlobal, providers, options.imports);
  }
}

function assemble(
  names: readonly string[],
  isGlobal: boolean | undefined,
  optionsProvidersGiven: readonly Provider[],
  imports: DynamicModule['imports'] = [],
): DynamicModule {
  const clients = clientProviders(names);
  return {
    module: StorkModule,
    global: isGlobal ?? true,
    imports: [DiscoveryModule, ...imports],
    providers: [
      ...optionsProvidersGiven,
      { provide: STORK_DECLARED_TRANSPORTS, useValue: names },
      { provide: STORK_CLOCK, useValue: systemClock },
      TransportRegistry,
      HandlerExplorer,
      StorkServer,
      StorkLifecycle,
      StorkService,
      DeadLetterService,
      ...clients,
    ],
    exports: [StorkService, DeadLetterService, StorkServer, ...clients.map(({ provide }) => provide)],
  };
}

/** One for each transport; with a single one `StorkClient` itself can be injected too. */
function clientProviders(names: readonly string[]) {
  const clients = names.map((name) => ({
    provide: getClientToken(name),
    useFactory: (registry: TransportRegistry) => new StorkClient(registry, name),
    inject: [TransportRegistry],
  }));
  const only = names.length === 1 ? [{ provide: StorkClient, useExisting: getClientToken(names[0]!) }] : [];
  return [...clients, ...only];
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
    useFactory: (made: StorkOptionsFactory) => made.createStorkOptions(),
    inject: [factory],
  };
  return useExisting === undefined ? [fromFactory, factory] : [fromFactory];
}
