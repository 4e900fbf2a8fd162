import { recordOriginalError } from './error-recorder.js';
import { StorkLifecycle } from './lifecycle.js';
import { StorkServer } from './server.js';
/**
 * The strategy for `NestFactory.createMicroservice(AppModule, storkMicroservice())`. The module it is given to must import
 * `StorkModule`.
 *
 * @publicApi
 */
export function storkMicroservice() {
  return {
    inject: [StorkServer],
    useFactory: (strategy) => {
      strategy.markConnected();
      return { strategy };
    },
  };
}
/**
 * Adds the transports to an HTTP application, after every `app.useGlobal…()` and before `app.startAllMicroservices()`. Consuming begins
 * when the application has bootstrapped, that is with `app.listen()` or `app.init()`.
 *
 * @publicApi
 */
export function connectStork(app, { inheritAppConfig = true } = {}) {
  if (inheritAppConfig) {
    app.get(StorkLifecycle, { strict: false }).connectedInheriting();
    return app.connectMicroservice(storkMicroservice(), { inheritAppConfig });
  }
  // Without inheritance Nest gives the microservice a configuration of its own, which it binds at once. Deferred, there is time to put
  // our hook into it; then the same three steps that Nest would have taken.
  const microservice = app.connectMicroservice(storkMicroservice(), { deferInitialization: true });
  const own = microservice;
  own.registerPreRequestHook(recordOriginalError);
  own.registerListeners();
  own.setIsInitialized(true);
  own.setIsInitHookCalled(true);
  return microservice;
}
