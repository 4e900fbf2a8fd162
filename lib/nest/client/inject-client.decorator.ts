import { Inject, type InjectionToken } from '@nestjs/common';

/**
 * Injection token of a transport's {@link StorkClient}, e.g. for `app.get(getClientToken('orders'))` or to
 * override the client in a test.
 *
 * @param transport a name in `StorkModule.forRoot({ transports })` or in a `forFeature()`
 * @publicApi
 */
export function getClientToken(transport: string): InjectionToken {
  return Symbol.for(`stork.client:${transport}`);
}

/**
 * Injects the client of a transport: `constructor(@InjectClient('orders') private readonly orders:
 * StorkClient) {}`. With a single transport in `forRoot()`, `StorkClient` can also be injected by its type.
 *
 * @param transport a name in `StorkModule.forRoot({ transports })` or in a `forFeature()`
 * @publicApi
 */
export function InjectClient(transport: string): ParameterDecorator & PropertyDecorator {
  return Inject(getClientToken(transport));
}
