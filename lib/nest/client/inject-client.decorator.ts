import { Inject, type InjectionToken } from '@nestjs/common';

/** Token of a transport's {@link StorkClient}, e.g. for `app.get(getClientToken('orders'))`. @publicApi */
export function getClientToken(transport: string): InjectionToken {
  return Symbol.for(`stork.client:${transport}`);
}

/**
 * Injects the client of a named transport: `constructor(@InjectClient('orders') private readonly orders: StorkClient) {}`.
 * With a single transport `StorkClient` can be injected by its type.
 *
 * @publicApi
 */
export function InjectClient(transport: string): ParameterDecorator & PropertyDecorator {
  return Inject(getClientToken(transport));
}
