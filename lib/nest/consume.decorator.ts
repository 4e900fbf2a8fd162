import { Reflector } from '@nestjs/core';

/** How a handler consumes. @publicApi */
export interface ConsumeOptions {
  /**
   * Names the handler on the wire, in dead letters and logs; unique in the application. Set it before renaming a class or method whose
   * messages may still be on their way. @defaultValue `<Class>.<method>`
   */
  readonly id?: string;
}

const ConsumeMetadata = Reflector.createDecorator<ConsumeOptions>();

/**
 * Says how a handler consumes.
 *
 * @example
 * ```ts
 * @EventPattern<string>('order.created')
 * @Consume({ id: 'billing.order-created' })
 * created(@Payload() order: OrderDto) {}
 * ```
 *
 * @publicApi
 */
export function Consume(options: ConsumeOptions): MethodDecorator {
  return ConsumeMetadata(options);
}

export const consumeMetadataKey: string = ConsumeMetadata.KEY;
