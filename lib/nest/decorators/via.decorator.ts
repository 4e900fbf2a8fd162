import { Reflector } from '@nestjs/core';

const prefix = 'stork.transport:';

/**
 * Binds a handler to the named transports only: `@EventPattern('order.created', via('orders'))`. Names are those of
 * `StorkModule.forRoot({ transports })`; an unknown one rejects the start.
 *
 * Declared as `symbol | undefined` on purpose: it selects Nest's untyped overload of `@EventPattern`, so that a handler with a
 * typed `@Ctx()` compiles under `strict`.
 *
 * @publicApi
 */
export function via(...transports: readonly [string, ...string[]]): symbol | undefined {
  return Symbol.for(prefix + transports.join(','));
}

/** The names in what `via()` made; undefined for anything else, e.g. another library's transport. */
export function namesOfVia(transport: unknown): readonly string[] | undefined {
  if (typeof transport !== 'symbol') return undefined;
  const key = Symbol.keyFor(transport);
  return key?.startsWith(prefix) ? key.slice(prefix.length).split(',') : undefined;
}

const ViaMetadata = Reflector.createDecorator<readonly string[]>();

/**
 * On a controller: `via(…)` for each of its handlers that names no transport.
 *
 * @example
 * ```ts
 * @Via('orders')
 * @Controller()
 * export class OrdersController {}
 * ```
 *
 * @publicApi
 */
export function Via(...transports: readonly [string, ...string[]]): ClassDecorator {
  return ViaMetadata(transports);
}

export const viaMetadataKey: string = ViaMetadata.KEY;
