import { Inject } from '@nestjs/common';
/** Token of a transport's {@link StorkClient}, e.g. for `app.get(getClientToken('orders'))`. @publicApi */
export function getClientToken(transport) {
  return Symbol.for(`stork.client:${transport}`);
}
/**
 * Injects the client of a named transport: `constructor(@InjectClient('orders') private readonly orders: StorkClient) {}`.
 * With a single transport `StorkClient` can be injected by its type.
 *
 * @publicApi
 */
export function InjectClient(transport) {
  return Inject(getClientToken(transport));
}
