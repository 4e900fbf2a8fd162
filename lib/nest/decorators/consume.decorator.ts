import { Reflector } from '@nestjs/core';
import type { DeliveryOrder } from '../../core/port/driver.js';
import type { DeliveryMode } from '../../core/port/delivery.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { checkOptions, Integer, OneOf, Text } from '../validation/validate-options.js';

/** How a handler consumes. Handlers that read one queue or topic must agree in `order` and `delivery`. @publicApi */
export interface ConsumeOptions {
  /**
   * Names the handler on the wire, in dead letters and logs; unique in the application. Set it before renaming a class or method whose
   * messages may still be on their way. @defaultValue `<Class>.<method>`
   */
  readonly id?: string;
  /**
   * What runs one after another, in the order of the source. `key`: messages of one key; those without a key run free on a queue, and in
   * their partition's order on a log. `partition`: all messages of a partition; on a log only. `none`: nothing. @defaultValue 'key'
   */
  readonly order?: DeliveryOrder;
  /**
   * When the message is settled. `at-least-once`: when the handler has ended and its reply or dead letter is confirmed; it may run
   * twice. `at-most-once`: before the handler begins; after a crash the message is gone. `manual`: when the handler says so, by
   * `ctx.ack()` or `ctx.nack()`, which it may do after it has returned; until then the message counts as in flight. One handler for an
   * event only. @defaultValue 'at-least-once'
   */
  readonly delivery?: DeliveryMode;
  /**
   * Runs of this handler at once, 1 to the transport's `concurrency`. Its messages wait beside the others and hold up none but those of
   * their key, as long as what waits fits into what the transport takes at once (on a queue, `prefetch`). @defaultValue the transport's
   */
  readonly concurrency?: number;
  /**
   * How long a run may take, in milliseconds. Past it `ctx.signal` aborts and the run counts as failed, with `HandlerTimeoutError`: it is
   * retried as any other failure, and the letter of a last run says `timeout`. What it says or emits later is nobody's; what waits for
   * it, e.g. its key's next message, goes on when it has ended, or 5 s later. On RabbitMQ the runs and waits of a message must fit into
   * `consumerTimeoutMs`. @defaultValue as long as it likes
   */
  readonly timeoutMs?: number;
}

const ConsumeMetadata = Reflector.createDecorator<ConsumeOptions>();

/**
 * Says how a handler consumes.
 *
 * @example
 * ```ts
 * @EventPattern<string>('order.created')
 * @Consume({ id: 'billing.order-created', concurrency: 2 })
 * created(@Payload() order: OrderDto) {}
 * ```
 *
 * @publicApi
 */
export function Consume(options: ConsumeOptions): MethodDecorator {
  return ConsumeMetadata(options);
}

export const consumeMetadataKey: string = ConsumeMetadata.KEY;

class ConsumeSchema {
  @Text()
  id?: unknown;
  @OneOf('key', 'partition', 'none')
  order?: unknown;
  @OneOf('at-least-once', 'at-most-once', 'manual')
  delivery?: unknown;
  @Integer(1, 100_000)
  concurrency?: unknown;
  @Integer(1)
  timeoutMs?: unknown;
}

/** @param place the method that carries it */
export function checkConsume(given: unknown, place: string): ConfigProblem[] {
  return checkOptions(ConsumeSchema, given, '').map(({ name, ...problem }) => ({
    name: name === '' ? `@Consume() of ${place}` : `@Consume({ ${name.slice(1)} }) of ${place}`,
    ...problem,
  }));
}
