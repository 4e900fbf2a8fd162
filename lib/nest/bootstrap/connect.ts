import type { INestApplication, INestApplicationContext, INestMicroservice } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import type { AsyncMicroserviceOptions } from '@nestjs/microservices';
import { StorkConfigError } from '../../core/runtime/errors.js';
import type { StorkLifecycle } from './lifecycle.js';
import { nestTooOld } from '../validation/versions.js';
import type { StorkServer } from '../server/stork.server.js';
import { STORK_LIFECYCLE, STORK_SERVER } from '../stork.constants.js';

/**
 * Options for a worker: `NestFactory.createMicroservice(AppModule, storkMicroservice())`. `AppModule` must
 * import `StorkModule`, directly or through another module.
 *
 * @publicApi
 */
export function storkMicroservice(): AsyncMicroserviceOptions {
  return {
    inject: [ModuleRef],
    useFactory: (application: ModuleRef) => {
      const strategy = lookUp(application, STORK_SERVER) as StorkServer;
      strategy.markConnected();
      return {
        strategy,
        /** Read only by Nest before 11.1.2, which ignores the strategy of a factory. */
        get transport(): never {
          throw nestTooOld();
        },
      };
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
  if (inheritAppConfig) (lookUp(app, STORK_LIFECYCLE) as StorkLifecycle).snapshotGlobals();
  return app.connectMicroservice(storkMicroservice(), { inheritAppConfig });
}

function lookUp(application: Pick<INestApplicationContext | ModuleRef, 'get'>, token: symbol): unknown {
  try {
    return application.get<unknown>(token, { strict: false });
  } catch (cause) {
    throw new StorkConfigError(
      'the application does not import StorkModule; add StorkModule.forRoot(…) to its root module',
      { cause },
    );
  }
}
