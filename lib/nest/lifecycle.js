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
var StorkLifecycle_1;
import { Injectable, Logger } from '@nestjs/common';
import { ApplicationConfig, ModulesContainer } from '@nestjs/core';
import { StorkConfigError } from '../core/errors.js';
import { HandlerExplorer } from './handler-explorer.js';
import { StorkServer } from './server.js';
import { TransportRegistry } from './transport-registry.js';
/** The connections get this long to flush and close. */
const closeTimeoutMs = 5_000;
const globals = {
  useGlobalPipes: 'getGlobalPipes',
  useGlobalGuards: 'getGlobalGuards',
  useGlobalInterceptors: 'getGlobalInterceptors',
  useGlobalFilters: 'getGlobalFilters',
};
/**
 * Ties the transports to Nest's hooks: checks at module init, consumes after everybody's bootstrap, drains before anybody's destroy,
 * closes at the very end, when nobody sends any more.
 */
let StorkLifecycle = (StorkLifecycle_1 = class StorkLifecycle {
  #registry;
  #server;
  #explorer;
  #config;
  #logger = new Logger('Stork');
  #atConnect;
  constructor(registry, server, explorer, config, modules) {
    this.#registry = registry;
    this.#server = server;
    this.#explorer = explorer;
    this.#config = config;
    // Nest runs hooks by distance from the root, and a global module's are destroyed last, when the databases are closed. Below 0 we
    // bootstrap after everybody and are destroyed before everybody.
    for (const module of modules.values()) if (module.providers.has(StorkLifecycle_1)) module.distance = -1;
  }
  onModuleInit() {
    this.#registry.all();
  }
  async onApplicationBootstrap() {
    if (this.#atConnect !== undefined) this.#refuseLateGlobals(this.#atConnect);
    if (!this.#server.isConnected) this.#warnOfUnserved();
    await this.#server.bootstrapped();
  }
  async onModuleDestroy() {
    await this.#server.drain(this.#registry.drainTimeoutMs);
  }
  async onApplicationShutdown() {
    await Promise.all([...this.#registry.created()].map((transport) => transport.close(closeTimeoutMs)));
  }
  /** Remembers what a hybrid application's microservice has inherited: Nest binds handlers at that moment. */
  connectedInheriting() {
    this.#atConnect = this.#countGlobals();
  }
  #countGlobals() {
    const counts = Object.entries(globals).map(([name, getter]) => [name, this.#config[getter]().length]);
    return Object.fromEntries(counts);
  }
  #refuseLateGlobals(before) {
    const now = this.#countGlobals();
    const late = Object.keys(globals).filter((name) => now[name] > before[name]);
    if (late.length === 0) return;
    throw new StorkConfigError(
      `${late.map((name) => `${name}()`).join(' and ')} was called after connectStork(app): message handlers would run without it; ` +
        'call connectStork(app) after every app.useGlobal…()',
    );
  }
  #warnOfUnserved() {
    const places = this.#explorer.ours().map(({ place }) => place);
    if (places.length === 0) return;
    this.#logger.warn(
      `no strategy is connected, so these handlers receive nothing: ${places.join(', ')}; ` +
        'use NestFactory.createMicroservice(AppModule, storkMicroservice()) or connectStork(app)',
    );
  }
});
StorkLifecycle = StorkLifecycle_1 = __decorate(
  [
    Injectable(),
    __metadata('design:paramtypes', [
      TransportRegistry,
      StorkServer,
      HandlerExplorer,
      ApplicationConfig,
      ModulesContainer,
    ]),
  ],
  StorkLifecycle,
);
export { StorkLifecycle };
