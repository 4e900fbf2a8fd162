import { SetMetadata } from '@nestjs/common';

const prefix = 'stork.transport:';

/**
 * Binds a handler to the named transports only: `@EventPattern('order.created', via('orders'))`. The names
 * are the keys of `StorkModule.forRoot({ transports })`; an unknown name rejects the start with a
 * `StorkConfigError`.
 *
 * The return type `symbol | undefined` selects Nest's untyped overload of `@EventPattern`, so that a
 * handler with a typed `@Ctx()` compiles under `strict`.
 *
 * @publicApi
 */
export function via(...transports: readonly [string, ...string[]]): symbol | undefined {
  return Symbol.for(prefix + transports.join(','));
}

/** The transport names in a symbol made by `via()`; undefined for any other value, e.g. `Transport.TCP`. */
export function namesOfVia(transport: unknown): readonly string[] | undefined {
  if (typeof transport !== 'symbol') return undefined;
  const key = Symbol.keyFor(transport);
  return key?.startsWith(prefix) ? key.slice(prefix.length).split(',') : undefined;
}

export const viaMetadataKey = 'nestjs-stork:via';

/**
 * Binds the handlers of a controller to the named transports. A handler with its own `via()` or
 * `Transport` keeps it.
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
  return SetMetadata(viaMetadataKey, transports);
}
