import { Injectable, type Type } from '@nestjs/common';
import type { InstanceWrapper } from '@nestjs/core/injector/instance-wrapper.js';
import type { Module } from '@nestjs/core/injector/module.js';
import type { MessageHandler } from '@nestjs/microservices';
import {
  PATTERN_EXTRAS_METADATA,
  PATTERN_METADATA,
  TRANSPORT_METADATA,
} from '@nestjs/microservices/constants.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { NestCore } from '../bootstrap/nest-core.js';
import type { ConsumeOptions } from '../decorators/consume.decorator.js';
import { consumeMetadataKey } from '../decorators/consume.decorator.js';
import { findUnusedPolicies, type ClassRole } from '../decorators/unused-policies.js';
import { joinLayers, policyLayersOf, policyNamesOf } from '../decorators/policy-metadata.js';
import { namesOfVia, viaMetadataKey } from '../decorators/via.decorator.js';
import { STORK_HANDLER_ID_PREFIX } from '../stork.constants.js';
import type { ControllerModule, DecoratedMethod } from './decorated-method.js';
import { qualifySharedIds } from './handler-ids.js';

/** The arguments of one `addHandler` call: Nest passes neither the class nor the method name. */
export interface NestBinding {
  readonly pattern: unknown;
  readonly handler: MessageHandler;
  readonly isEvent: boolean;
  readonly extras: object;
}

/**
 * Matches Nest's `addHandler` calls to controller methods. The join key is the `extras` object: Nest
 * passes the same object that the method's metadata holds. Controllers that inherit a method share that
 * object; they are distinguished by order, because the discovery service and Nest's listener walk modules and
 * controllers in the same order.
 */
@Injectable()
export class HandlerExplorer {
  readonly #nest: NestCore;

  constructor(nest: NestCore) {
    this.#nest = nest;
  }

  join(
    bindings: readonly NestBinding[],
  ): { readonly method: DecoratedMethod; readonly binding: NestBinding }[] {
    const methods = this.#methodsByExtras();
    return bindings.map((binding) => {
      const candidates = methods.get(binding.extras)?.get(patternKey(binding.pattern));
      const method = candidates?.shift();
      if (method === undefined) {
        throw new Error(`no controller method found for the pattern ${patternKey(binding.pattern)}`);
      }
      return { method, binding };
    });
  }

  /** Methods with `via()`, `@Via()`, `@Consume()` or a policy: they are written for a stork transport. */
  storkMethods(): DecoratedMethod[] {
    return this.#explore().flatMap(({ method, isStorkMethod }) => (isStorkMethod ? [method] : []));
  }

  /** Handlers that Nest binds to nothing: `@EventPattern([])`. */
  handlersWithoutPattern(): ConfigProblem[] {
    return this.#explore()
      .filter(({ method, patterns }) => patterns.length === 0 && !method.isForeign)
      .map(({ method }) => ({
        name: `${method.name}: pattern`,
        expected: 'at least one pattern',
        given: 'an empty list',
      }));
  }

  /** Policies without effect, in controllers and providers. */
  unusedPolicies(): ConfigProblem[] {
    const controllers = classesOf(this.#nest.discovery.getControllers());
    // A base class of a controller may carry policies for the controller's inherited handlers.
    const isControllerOrBase = (provider: Type): boolean =>
      controllers.some((controller) => controller === provider || controller.prototype instanceof provider);
    const providers = classesOf(this.#nest.discovery.getProviders()).filter(
      (type) => !isControllerOrBase(type),
    );
    const unusedIn = (types: readonly Type[], role: ClassRole): ConfigProblem[] =>
      types.flatMap((type) => findUnusedPolicies(type, role, this.#nest.scanner));
    return [...unusedIn(controllers, 'controller'), ...unusedIn(providers, 'provider')];
  }

  #methodsByExtras(): Map<object, Map<string, DecoratedMethod[]>> {
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

  #explore(): ExploredMethod[] {
    const modules = new Map<Module | undefined, ControllerModule>();
    const explored = this.#nest.discovery.getControllers().flatMap((controller) => {
      const { instance, host } = controller as { readonly instance: unknown; readonly host?: Module };
      if (typeof instance !== 'object' || instance === null || controller.metatype === null) return [];
      const prototype = Object.getPrototypeOf(instance) as Record<string, object>;
      const module = modules.get(host) ?? describeModule(host);
      modules.set(host, module);
      return this.#nest.scanner
        .getAllMethodNames(prototype)
        .flatMap((name) => describeMethod(controller, module, { name, callback: prototype[name]! }) ?? []);
    });
    const methods = qualifySharedIds(explored.map(({ method }) => method));
    return explored.map((one, at) => ({ ...one, method: methods[at]! }));
  }
}

/** Without duplicates. Omits factories and values: their wrappers hold no class with metadata. */
function classesOf(wrappers: readonly InstanceWrapper[]): readonly Type[] {
  const classes = wrappers.filter(({ isNotMetatype }) => !isNotMetatype).map(({ metatype }) => metatype);
  return [...new Set(classes)] as Type[];
}

interface ExploredMethod {
  readonly method: DecoratedMethod;
  readonly extras: object;
  readonly patterns: readonly unknown[];
  readonly isStorkMethod: boolean;
}

function describeModule(module: Module | undefined): ControllerModule {
  const provided = module?.providers.get(STORK_HANDLER_ID_PREFIX);
  const idPrefix: unknown = provided === undefined ? undefined : (provided.instance ?? null);
  return { name: module?.name ?? '', idPrefix };
}

function describeMethod(
  { metatype, host }: InstanceWrapper,
  module: ControllerModule,
  { name: methodName, callback }: { readonly name: string; readonly callback: object },
): ExploredMethod | undefined {
  const controller = metatype as Type;
  const patterns = Reflect.getMetadata(PATTERN_METADATA, callback) as readonly unknown[] | undefined;
  const extras = Reflect.getMetadata(PATTERN_EXTRAS_METADATA, callback) as object | undefined;
  if (patterns === undefined || extras === undefined) return undefined;
  const transport: unknown = Reflect.getMetadata(TRANSPORT_METADATA, callback);
  const consume = Reflect.getMetadata(consumeMetadataKey, callback) as ConsumeOptions | undefined;
  const classTransports = Reflect.getMetadata(viaMetadataKey, controller) as readonly string[] | undefined;
  const methodTransports = namesOfVia(transport);
  const name = `${controller.name}.${methodName}`;
  const ownId = consume?.id ?? name;
  const policies = joinLayers(
    policyLayersOf(controller, controller.name, host!),
    policyLayersOf(callback, name, host!),
  );
  const hasPolicy = [controller, callback].some((decorated) => policyNamesOf(decorated).length > 0);
  return {
    method: {
      id: typeof module.idPrefix === 'string' ? `${module.idPrefix}.${ownId}` : ownId,
      name,
      controller,
      module,
      consume,
      policies,
      transports: methodTransports ?? (transport === undefined ? classTransports : undefined),
      isForeign: transport !== undefined && methodTransports === undefined,
    },
    extras,
    patterns,
    isStorkMethod:
      methodTransports !== undefined || classTransports !== undefined || consume !== undefined || hasPolicy,
  };
}

/** Equal for equal patterns. Must not throw: invalid patterns are reported later. */
function patternKey(pattern: unknown): string {
  if (pattern instanceof RegExp) return String(pattern);
  try {
    return JSON.stringify(pattern) ?? String(pattern);
  } catch {
    return typeof pattern;
  }
}
