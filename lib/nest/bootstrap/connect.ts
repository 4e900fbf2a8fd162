import type { INestApplication, INestMicroservice } from '@nestjs/common';
import type { AsyncMicroserviceOptions } from '@nestjs/microservices';
import { StorkLifecycle } from './lifecycle.js';
import { StorkServer } from '../server/stork.server.js';

/**
 * Options for a worker: `NestFactory.createMicroservice(AppModule, storkMicroservice())`. `AppModule` must
 * import `StorkModule`, directly or through another module.
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

/** Options of `connectStork()`. @publicApi */
export interface ConnectStorkOptions {
  /**
   * Whether the application's global pipes, guards, interceptors and filters also apply to message
   * handlers.
   *
   * @defaultValue true
   */
  readonly inheritAppConfig?: boolean;
}

/**
 * Adds the transports to an HTTP application (a hybrid application in Nest's terms). Call it after every
 * `app.useGlobal…()` and before `app.startAllMicroservices()`. Handlers receive messages once the
 * application has bootstrapped, that is after `app.listen()` or `app.init()`.
 *
 * @publicApi
 */
export function connectStork(
  app: INestApplication,
  { inheritAppConfig = true }: ConnectStorkOptions = {},
): INestMicroservice {
  if (inheritAppConfig) app.get(StorkLifecycle, { strict: false }).snapshotGlobals();
  return app.connectMicroservice(storkMicroservice(), { inheritAppConfig });
}
