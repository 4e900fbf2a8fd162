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
import { Injectable } from '@nestjs/common';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import {
  PATTERN_EXTRAS_METADATA,
  PATTERN_METADATA,
  TRANSPORT_METADATA,
} from '@nestjs/microservices/constants.js';
import { consumeMetadataKey } from './consume.decorator.js';
import { namesOfVia, viaMetadataKey } from './via.js';
/**
 * Joins what Nest binds to the methods that it came from. The key is the `extras` object: Nest passes on the very object that the
 * method's metadata holds. A method inherited by several controllers shares one; there the order decides, which is that of Nest's
 * own walk over modules and controllers.
 */
let HandlerExplorer = class HandlerExplorer {
  #discovery;
  #scanner;
  constructor(discovery, scanner) {
    this.#discovery = discovery;
    this.#scanner = scanner;
  }
  join(bindings) {
    const methods = this.#byExtras();
    return bindings.map((binding) => {
      const waiting = methods.get(binding.extras)?.get(patternKey(binding.pattern));
      const method = waiting?.shift();
      if (method === undefined) {
        throw new Error(`no controller method found for the pattern ${patternKey(binding.pattern)}`);
      }
      return { method, binding };
    });
  }
  /** Methods that carry `via()`, `@Via()` or `@Consume()`: they expect this library to serve them. */
  ours() {
    return this.#explore().flatMap(({ method, named }) => (named ? [method] : []));
  }
  #byExtras() {
    const table = new Map();
    for (const { method, extras, patterns } of this.#explore()) {
      const byPattern = table.get(extras) ?? new Map();
      table.set(extras, byPattern);
      for (const pattern of patterns) {
        const key = patternKey(pattern);
        byPattern.set(key, [...(byPattern.get(key) ?? []), method]);
      }
    }
    return table;
  }
  #explore() {
    return this.#discovery.getControllers().flatMap(({ instance, metatype }) => {
      if (typeof instance !== 'object' || instance === null || metatype === null) return [];
      const prototype = Object.getPrototypeOf(instance);
      return this.#scanner
        .getAllMethodNames(prototype)
        .flatMap((name) => describe(metatype, name, prototype[name]) ?? []);
    });
  }
};
HandlerExplorer = __decorate(
  [Injectable(), __metadata('design:paramtypes', [DiscoveryService, MetadataScanner])],
  HandlerExplorer,
);
export { HandlerExplorer };
function describe(controller, name, callback) {
  const patterns = Reflect.getMetadata(PATTERN_METADATA, callback);
  const extras = Reflect.getMetadata(PATTERN_EXTRAS_METADATA, callback);
  if (patterns === undefined || extras === undefined) return undefined;
  const transport = Reflect.getMetadata(TRANSPORT_METADATA, callback);
  const consume = Reflect.getMetadata(consumeMetadataKey, callback);
  const ofClass = Reflect.getMetadata(viaMetadataKey, controller);
  const ofMethod = namesOfVia(transport);
  const place = `${controller.name}.${name}`;
  return {
    method: {
      id: consume?.id ?? place,
      place,
      consume,
      transports: ofMethod ?? (transport === undefined ? ofClass : undefined),
      isForeign: transport !== undefined && ofMethod === undefined,
    },
    extras,
    patterns,
    named: ofMethod !== undefined || ofClass !== undefined || consume !== undefined,
  };
}
function patternKey(pattern) {
  return pattern instanceof RegExp ? String(pattern) : (JSON.stringify(pattern) ?? String(pattern));
}
