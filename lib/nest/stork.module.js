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
import { Module } from '@nestjs/common';
import { DiscoveryModule } from '@nestjs/core';
import { systemClock } from '../core/clock.js';
import { StorkClient } from './client.js';
import { ErrorRecorder } from './error-recorder.js';
import { HandlerExplorer } from './handler-explorer.js';
import { getClientToken } from './inject-client.decorator.js';
import { StorkLifecycle } from './lifecycle.js';
import { StorkServer } from './server.js';
import { StorkService } from './stork.service.js';
import { STORK_CLOCK, STORK_DECLARED_TRANSPORTS, STORK_OPTIONS } from './tokens.js';
import { TransportRegistry } from './transport-registry.js';
/**
 * Everything that the library provides. Import it once, with all transports in it.
 *
 * @publicApi
 */
let StorkModule = class StorkModule {
  /**
   * Records the transports; they are checked when the application starts, so that a mistake rejects `app.listen()` or
   * `app.startAllMicroservices()` with one `StorkConfigError` that lists everything.
   *
   * Each call makes a module of its own: keep the result in a constant where several modules import it.
   */
  static forRoot(options) {
    const names = Object.keys(options?.transports ?? {});
    return assemble(names, options?.isGlobal, [{ provide: STORK_OPTIONS, useValue: options ?? null }]);
  }
  /** Like `forRoot()`, with options made by a factory that may inject. `transports` names what it will return. */
  static forRootAsync(options) {
    const providers = [...optionsProviders(options), ...(options.extraProviders ?? [])];
    return assemble(options.transports ?? [], options.isGlobal, providers, options.imports);
  }
};
StorkModule = __decorate([Module({})], StorkModule);
export { StorkModule };
function assemble(names, isGlobal, optionsProvidersGiven, imports = []) {
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
      ErrorRecorder,
      StorkServer,
      StorkLifecycle,
      StorkService,
      ...clients,
    ],
    exports: [StorkService, StorkServer, ...clients.map(({ provide }) => provide)],
  };
}
/** One for each transport; with a single one `StorkClient` itself can be injected too. */
function clientProviders(names) {
  const clients = names.map((name) => ({
    provide: getClientToken(name),
    useFactory: (registry) => new StorkClient(registry, name),
    inject: [TransportRegistry],
  }));
  const only = names.length === 1 ? [{ provide: StorkClient, useExisting: getClientToken(names[0]) }] : [];
  return [...clients, ...only];
}
function optionsProviders({ useFactory, inject, useClass, useExisting }) {
  if (useFactory !== undefined) return [{ provide: STORK_OPTIONS, useFactory, inject: inject ?? [] }];
  const factory = useExisting ?? useClass;
  if (factory === undefined) return [{ provide: STORK_OPTIONS, useValue: null }];
  const fromFactory = {
    provide: STORK_OPTIONS,
    useFactory: (made) => made.createStorkOptions(),
    inject: [factory],
  };
  return useExisting === undefined ? [fromFactory, factory] : [fromFactory];
}
