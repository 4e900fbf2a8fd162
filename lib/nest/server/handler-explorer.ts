import { Injectable, type Type } from '@nestjs/common';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import type { InstanceWrapper } from '@nestjs/core/injector/instance-wrapper.js';
import type { MessageHandler } from '@nestjs/microservices';
import {
  PATTERN_EXTRAS_METADATA,
  PATTERN_METADATA,
  TRANSPORT_METADATA,
} from '@nestjs/microservices/constants.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { ConsumeOptions } from '../decorators/consume.decorator.js';
import { consumeMetadataKey } from '../decorators/consume.decorator.js';
import { idlePolicies, type ClassRole } from '../decorators/unused-policies.js';
import { joinLayers, layersOf, type PolicyLayers } from '../decorators/policy-metadata.js';
import { namesOfVia, viaMetadataKey } from '../decorators/via.decorator.js';

/** A method with `@EventPattern` or `@MessagePattern`, as its decorators describe it. */
export interface DecoratedMethod {
  /** `<Class>.<method>` or `@Consume({ id })`. */
  readonly id: string;
  /** `<Class>.<method>`, for messages to people. */
  readonly place: string;
  /** What `via()` or `@Via()` names; undefined: no transport is named. */
  readonly transports: readonly string[] | undefined;
  /** What `@Consume()` was given, unchecked. */
  readonly consume: ConsumeOptions | undefined;
  /** What its class and then itself say of policies. */
  readonly policies: PolicyLayers;
  /** True where the decorator names a transport that is not ours, e.g. `Transport.TCP`: to be left alone. */
  readonly isForeign: boolean;
}

/** One call of Nest to `addHandler`: it says neither class nor method. */
export interface NestBinding {
  readonly pattern: unknown;
  readonly handler: MessageHandler;
  readonly isEvent: boolean;
  readonly extras: object;
}

/**
 * Joins what Nest binds to the methods that it came from. The key is the `extras` object: Nest passes on the very object that the
 * method's metadata holds. A method inherited by several controllers shares one; there the order decides, which is that of Nest's
 * own walk over modules and controllers.
 */
@Injectable()
export class HandlerExplorer {
  readonly #discovery: DiscoveryService;
  readonly #scanner: MetadataScanner;

  constructor(discovery: DiscoveryService, scanner: MetadataScanner) {
    this.#discovery = discovery;
    this.#scanner = scanner;
  }

  join(
    bindings: readonly NestBinding[],
  ): { readonly method: DecoratedMethod; readonly binding: NestBinding }[] {
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

  /** Methods that carry `via()`, `@Via()`, `@Consume()` or a policy of ours: they expect this library to serve them. */
  ours(): DecoratedMethod[] {
    return this.#explore().flatMap(({ method, named }) => (named ? [method] : []));
  }

  /** Policies that would never run, whoever carries them. */
  idlePolicies(): ConfigProblem[] {
    const controllers = classesOf(this.#discovery.getControllers());
    const isOrBears = (provider: Type): boolean =>
      controllers.some((one) => one === provider || one.prototype instanceof provider);
    const providers = classesOf(this.#discovery.getProviders()).filter((one) => !isOrBears(one));
    const idle = (classes: readonly Type[], role: ClassRole): ConfigProblem[] =>
      classes.flatMap((one) => idlePolicies(one, role, this.#scanner));
    return [...idle(controllers, 'controller'), ...idle(providers, 'provider')];
  }

  #byExtras(): Map<object, Map<string, DecoratedMethod[]>> {
    const table = new Map<object, Map<string, DecoratedMethod[]>>();
    for (const { method, extras, patterns } of this.#explore()) {
      const byPattern = table.get(extras) ?? new Map<string, DecoratedMethod[]>();
      table.set(extras, byPattern);
      for (const pattern of patterns) {
        const key = patternKey(pattern);
        byPattern.set(key, [...(byPattern.get(key) ?? []), method]);
      }
    }
    return table;
  }

  #explore(): Explored[] {
    return this.#discovery.getControllers().flatMap(({ instance, metatype }) => {
      if (typeof instance !== 'object' || instance === null || metatype === null) return [];
      const prototype = Object.getPrototypeOf(instance) as Record<string, object>;
      return this.#scanner
        .getAllMethodNames(prototype)
        .flatMap((name) => describe(metatype as Type, name, prototype[name]!) ?? []);
    });
  }
}

/** Each once; what a factory makes or is given as a value says nothing of its class. */
function classesOf(wrappers: readonly InstanceWrapper[]): readonly Type[] {
  const classes = wrappers.filter(({ isNotMetatype }) => !isNotMetatype).map(({ metatype }) => metatype);
  return [...new Set(classes)] as Type[];
}

interface Explored {
  readonly method: DecoratedMethod;
  readonly extras: object;
  readonly patterns: readonly unknown[];
  readonly named: boolean;
}

function describe(controller: Type, name: string, callback: object): Explored | undefined {
  const patterns = Reflect.getMetadata(PATTERN_METADATA, callback) as readonly unknown[] | undefined;
  const extras = Reflect.getMetadata(PATTERN_EXTRAS_METADATA, callback) as object | undefined;
  if (patterns === undefined || extras === undefined) return undefined;
  const transport: unknown = Reflect.getMetadata(TRANSPORT_METADATA, callback);
  const consume = Reflect.getMetadata(consumeMetadataKey, callback) as ConsumeOptions | undefined;
  const ofClass = Reflect.getMetadata(viaMetadataKey, controller) as readonly string[] | undefined;
  const ofMethod = namesOfVia(transport);
  const place = `${controller.name}.${name}`;
  const policies = joinLayers(layersOf(controller, controller.name), layersOf(callback, place));
  const hasPolicy = Object.values(policies).some((layers: readonly unknown[]) => layers.length > 0);
  return {
    method: {
      id: consume?.id ?? place,
      place,
      consume,
      policies,
      transports: ofMethod ?? (transport === undefined ? ofClass : undefined),
      isForeign: transport !== undefined && ofMethod === undefined,
    },
    extras,
    patterns,
    named: ofMethod !== undefined || ofClass !== undefined || consume !== undefined || hasPolicy,
  };
}

function patternKey(pattern: unknown): string {
  return pattern instanceof RegExp ? String(pattern) : (JSON.stringify(pattern) ?? String(pattern));
}
