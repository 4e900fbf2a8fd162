import { SetMetadata } from '@nestjs/common';
import type { DeliveryOrder } from '../../core/port/driver.js';
import type { DeliveryMode } from '../../core/port/delivery.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { validateOptions, Integer, OneOf, Text } from '../validation/validate-options.js';

/**
 * Options of `@Consume()`. Handlers that read the same queue or topic must use the same `order` and
 * `delivery`.
 *
 * @publicApi
 */
export interface ConsumeOptions {
  /**
   * The handler's id in message headers, dead letters and logs; unique within the application. Set it
   * before you rename a class or method while retries or dead letters that carry the old name still exist,
   * and where a bundler renames classes.
   *
   * @defaultValue `<Class>.<method>`; where several modules would share an id, with the class name of the
   * module before it
   */
  readonly id?: string;
  /**
   * Which messages are handled one after another, in the order of the queue or partition.
   *
   * - `key`: messages with the same key. Messages without a key run concurrently on RabbitMQ; on Kafka
   *   they keep the order of their partition.
   * - `partition`: all messages of a partition. Kafka only.
   * - `none`: every message runs concurrently.
   *
   * @defaultValue 'key'
   */
  readonly order?: DeliveryOrder;
  /**
   * When a message is acknowledged (RabbitMQ) or its offset committed (Kafka).
   *
   * - `at-least-once`: after the handler has completed and its reply or dead letter is confirmed. After a
   *   crash the message may be handled twice.
   * - `at-most-once`: before the handler starts. After a crash the message is lost.
   * - `manual`: when the handler calls `ctx.ack()` or `ctx.nack()`, also after it has returned. Until then
   *   the message counts as in flight; once the handler has returned, it occupies no concurrency slot and
   *   blocks no key. Only one handler may subscribe to such an event.
   *
   * @defaultValue 'at-least-once'
   */
  readonly delivery?: DeliveryMode;
  /**
   * Concurrent calls of this handler, from 1 to the transport's `concurrency`. A message that waits for
   * this limit delays only messages of its own key, as long as the waiting messages fit into what the
   * transport fetches ahead (on RabbitMQ, `prefetch`). A message that waits between attempts does not count.
   *
   * @defaultValue the transport's `concurrency`
   */
  readonly concurrency?: number;
  /**
   * Time limit of one attempt, in milliseconds. When it passes, `ctx.signal` aborts and the attempt fails
   * with `HandlerTimeoutError`: it is retried like any other failure, and a dead letter has the reason
   * `timeout` if the last attempt timed out. The result of a timed-out attempt is ignored: its return
   * value, emitted items and ack/nack calls have no effect. The next message of its key starts when the
   * attempt has ended, or 5 s after the timeout. On RabbitMQ the attempts and waits of a message must fit
   * into `consumerTimeoutMs`.
   *
   * @defaultValue no limit
   */
  readonly timeoutMs?: number;
}

export const consumeMetadataKey = 'nestjs-stork:consume';

/**
 * Sets id, order, delivery mode, concurrency and time limit of a handler.
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
  return SetMetadata(consumeMetadataKey, options);
}

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

/** @param target the decorated method, as error texts name it */
export function validateConsumeOptions(given: unknown, target: string): ConfigProblem[] {
  return validateOptions(ConsumeSchema, given, '').map(({ name, ...problem }) => ({
    name: name === '' ? `@Consume() of ${target}` : `@Consume({ ${name.slice(1)} }) of ${target}`,
    ...problem,
  }));
}
