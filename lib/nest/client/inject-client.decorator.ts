import { Inject, type InjectionToken } from '@nestjs/common';

/**
 * Injection token of a transport's {@link StorkClient}, e.g. for `app.get(getClientToken('orders'))` or to
 * override the client in a test.
 *
 * @param transport a key of `StorkModule.forRoot({ transports })`
 * @publicApi
 */
export function getClientToken(transport: string): InjectionToken {
  return Symbol.for(`stork.client:${transport}`);
}

/**
 * Injects the client of a transport: `constructor(@InjectClient('orders') private readonly orders:
 * StorkClient) {}`. In an application with a single transport, `StorkClient` can also be injected by its
 * type.
 *
 * @param transport a key of `StorkModule.forRoot({ transports })`
 * @publicApi
 */
export function InjectClient(transport: string): ParameterDecorator & PropertyDecorator {
  return Inject(getClientToken(transport));
}
