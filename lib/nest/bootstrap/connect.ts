import type { INestApplication, INestMicroservice } from '@nestjs/common';
import type { AsyncMicroserviceOptions } from '@nestjs/microservices';
import { StorkLifecycle } from './lifecycle.js';
import { StorkServer } from '../server/stork.server.js';

/**
 * The strategy for `NestFactory.createMicroservice(AppModule, storkMicroservice())`. The module it is given to must import
 * `StorkModule`.
 *
 * @publicApi
 */
export function storkMicroservice(): AsyncMicroserviceOptions {
  return {
    inject: [StorkServer],
    useFactory: (strategy: StorkServer) => {
      strategy.markConnected();
      return { strategy };
    },
  };
}

/** @publicApi */
export interface ConnectStorkOptions {
  /** Whether message handlers get the application's global pipes, guards, interceptors and filters. @defaultValue true */
  readonly inheritAppConfig?: boolean;
}

/**
 * Adds the transports to an HTTP application, after every `app.useGlobal…()` and before `app.startAllMicroservices()`. Consuming begins
 * when the application has bootstrapped, that is with `app.listen()` or `app.init()`.
 *
 * @publicApi
 */
export function connectStork(
  app: INestApplication,
  { inheritAppConfig = true }: ConnectStorkOptions = {},
): INestMicroservice {
  if (inheritAppConfig) app.get(StorkLifecycle, { strict: false }).connectedInheriting();
  return app.connectMicroservice(storkMicroservice(), { inheritAppConfig });
}
