var __decorate =
  (this && this.__decorate) ||
  function (decorators, target, key, desc) {
    var c = arguments.length,
      r = c < 3 ? target : desc === null ? (desc = Object.getOwnPropertyDescriptor(target, key)) : desc,
      d;
    if (typeof Reflect === 'object' && typeof Reflect.decorate === 'function')
      r = Reflect.decorate(decorators, target, key, desc);
    else
      for (var i = decorators.length - 1; i >= 0; i--)
        if ((d = decorators[i])) r = (c < 3 ? d(r) : c > 3 ? d(target, key, r) : d(target, key)) || r;
    return (c > 3 && r && Object.defineProperty(target, key, r), r);
  };
var __metadata =
  (this && this.__metadata) ||
  function (k, v) {
    if (typeof Reflect === 'object' && typeof Reflect.metadata === 'function') return Reflect.metadata(k, v);
  };
import { Reflector } from '@nestjs/core';
import { checkOptions, Integer, OneOf, Text } from './validate-options.js';
const ConsumeMetadata = Reflector.createDecorator();
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
export function Consume(options) {
  return ConsumeMetadata(options);
}
export const consumeMetadataKey = ConsumeMetadata.KEY;
class ConsumeSchema {
  id;
  order;
  delivery;
  concurrency;
}
__decorate([Text(), __metadata('design:type', Object)], ConsumeSchema.prototype, 'id', void 0);
__decorate(
  [OneOf('key', 'partition', 'none'), __metadata('design:type', Object)],
  ConsumeSchema.prototype,
  'order',
  void 0,
);
__decorate(
  [OneOf('at-least-once', 'at-most-once', 'manual'), __metadata('design:type', Object)],
  ConsumeSchema.prototype,
  'delivery',
  void 0,
);
__decorate(
  [Integer(1, 100_000), __metadata('design:type', Object)],
  ConsumeSchema.prototype,
  'concurrency',
  void 0,
);
/** @param place the method that carries it */
export function checkConsume(given, place) {
  return checkOptions(ConsumeSchema, given, '').map(({ name, ...problem }) => ({
    name: name === '' ? `@Consume() of ${place}` : `@Consume({ ${name.slice(1)} }) of ${place}`,
    ...problem,
  }));
}
