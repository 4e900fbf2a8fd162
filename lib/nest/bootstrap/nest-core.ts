import type { FactoryProvider } from '@nestjs/common';
import { ApplicationConfig, DiscoveryService, MetadataScanner, ModulesContainer } from '@nestjs/core';
import { StorkConfigError } from '../../core/runtime/errors.js';

/** What the module uses of the application's `@nestjs/core`. */
export class NestCore {
  readonly modules: ModulesContainer;
  readonly config: ApplicationConfig;
  readonly discovery: DiscoveryService;
  readonly scanner = new MetadataScanner();

  constructor(modules: ModulesContainer, config: ApplicationConfig) {
    this.modules = modules;
    this.config = config;
    this.discovery = new DiscoveryService(modules);
  }
}

/**
 * The only provider that injects classes of `@nestjs/core`. An application with another copy of it does not
 * provide them, and Nest's own error would only name `NestCore`, a provider of this library.
 */
export const nestCoreProvider: FactoryProvider<NestCore> = {
  provide: NestCore,
  inject: [
    { token: ModulesContainer, optional: true },
    { token: ApplicationConfig, optional: true },
  ],
  useFactory: (modules?: ModulesContainer, config?: ApplicationConfig) => {
    if (modules === undefined || config === undefined) {
      throw new StorkConfigError(
        'the application and nestjs-stork use two different copies of @nestjs/core; `npm ls @nestjs/core` shows them',
      );
    }
    return new NestCore(modules, config);
  },
};
