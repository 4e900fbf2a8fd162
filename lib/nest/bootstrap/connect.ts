import type { INestApplication, INestApplicationContext, INestMicroservice } from '@nestjs/common';
import { ModuleRef, type NestFactory } from '@nestjs/core';
import type { AsyncMicroserviceOptions, NestMicroservice } from '@nestjs/microservices';
import { StorkConfigError } from '../../core/runtime/errors.js';
import { nestTooOld } from '../validation/versions.js';
import type { StorkServer } from '../server/stork.server.js';
import { STORK_SERVER } from '../stork.constants.js';

/**
 * What `NestFactory.createMicroservice()` takes beside a transport: `logger`, `bufferLogs`, `abortOnError`
 * and the others, with Nest's meaning and defaults.
 *
 * @publicApi
 */
export type StorkMicroserviceOptions = NonNullable<Parameters<(typeof NestFactory)['createMicroservice']>[1]>;

/**
 * Options for a worker: `NestFactory.createMicroservice(AppModule, storkMicroservice())`. `AppModule` must
 * import `StorkModule`, directly or through another module.
 *
 * @param options options of Nest for the application, e.g. `{ bufferLogs: true }`
 * @publicApi
 */
export function storkMicroservice(
  options: StorkMicroserviceOptions = {},
): AsyncMicroserviceOptions & StorkMicroserviceOptions {
  return {
    ...options,
    inject: [ModuleRef],
    useFactory: (application: ModuleRef) => {
      const strategy = lookUp(application);
      strategy.markConnected();
      return {
        strategy,
        /** `listen()` reads it from what the factory returns. */
        autoFlushLogs: options.autoFlushLogs,
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
   * handlers. Those that are written for HTTP alone must then check `context.getType() === 'http'`. Policy
   * interceptors, e.g. `RetryInterceptor`, apply in either case.
   *
   * @defaultValue false, as in Nest's `connectMicroservice()`
   */
  readonly inheritAppConfig?: boolean;
}

/**
 * Adds the transports to an HTTP application (a hybrid application in Nest's terms). Call it before
 * `app.startAllMicroservices()`. Handlers receive messages once the application has bootstrapped, that is
 * after `app.listen()` or `app.init()`.
 *
 * Handlers are bound by `app.startAllMicroservices()`: `useGlobal…()` on the returned microservice, and with
 * `inheritAppConfig` on the application, may be called until then. The start warns about global enhancers of
 * the application that handlers do not get, and about inherited ones that may be written for HTTP.
 *
 * @throws StorkConfigError if the application does not import `StorkModule`
 * @publicApi
 */
export function connectStork(
  app: INestApplication,
  { inheritAppConfig = false }: ConnectStorkOptions = {},
): INestMicroservice {
  const server = lookUp(app);
  // Nest 11.1.2 does not know `deferInitialization`, and binds the handlers twice.
  const hybridOptions = { inheritAppConfig, deferInitialization: true };
  const microservice = app.connectMicroservice(storkMicroservice(), hybridOptions) as NestMicroservice;
  // Nest creates the configuration of a microservice and offers no other way to read it.
  server.serveHybrid(microservice['applicationConfig']);
  bindAtStart(microservice, server);
  return microservice;
}

/**
 * Nest's own deferral, `deferInitialization`, would call every lifecycle hook of the application a second
 * time and register its WebSocket gateways again.
 */
function bindAtStart(microservice: NestMicroservice, server: StorkServer): void {
  const bind = async (): Promise<NestMicroservice> => {
    server.forgetHandlers();
    microservice.registerListeners();
    microservice.setIsInitialized(true);
    return microservice;
  };
  microservice.setIsInitialized(false);
  microservice.setIsInitHookCalled(true);
  Object.assign(microservice, { registerModules: bind, init: bind });
}

function lookUp(application: Pick<INestApplicationContext | ModuleRef, 'get'>): StorkServer {
  try {
    return application.get<StorkServer>(STORK_SERVER, { strict: false });
  } catch (cause) {
    throw new StorkConfigError(
      'the application does not import StorkModule.forRoot(…); add it to its root module',
      { cause },
    );
  }
}
