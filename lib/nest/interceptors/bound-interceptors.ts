import { Scope, type Type } from '@nestjs/common';
import {
  INTERCEPTORS_METADATA,
  PARAMTYPES_METADATA,
  SELF_DECLARED_DEPS_METADATA,
} from '@nestjs/common/constants.js';
import type { InstanceWrapper } from '@nestjs/core/injector/instance-wrapper.js';
import type { Module } from '@nestjs/core/injector/module.js';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import type { IdempotentOptions } from '../decorators/idempotent.decorator.js';
import type { CorrelationOptions } from './correlation.interceptor.js';
import { policyOfClass } from './policy-brand.js';

/** The policy that an interceptor carries, its options not validated. */
type InterceptorPolicy =
  | { readonly policy: 'retry'; readonly options: RetryOptions }
  | { readonly policy: 'dead-letter'; readonly options: DeadLetterOptions }
  | { readonly policy: 'idempotency'; readonly options: IdempotentOptions }
  | { readonly policy: 'correlation'; readonly options: CorrelationOptions };

/** An interceptor of this library where the application has bound it. */
export type BoundInterceptor = InterceptorPolicy & {
  /** As error texts name it: `new RetryInterceptor`, or `RetryInterceptor` if it is bound by its class. */
  readonly decoration: string;
};

export interface FoundInterceptors {
  /** In the order in which Nest calls them. */
  readonly bound: readonly BoundInterceptor[];
  /** Why the options of others cannot be read. */
  readonly problems: readonly ConfigProblem[];
}

/** What error texts say of the options: they are read before the first message. */
const readAtBoot =
  'one instance for the application, because its options are read at boot: remove the scope, or inject nothing request-scoped';

/** The interceptors of a class or method in `@UseInterceptors()`, instances and classes. */
export function interceptorsOn(decorated: object): readonly unknown[] {
  return (Reflect.getMetadata(INTERCEPTORS_METADATA, decorated) as readonly unknown[] | undefined) ?? [];
}

/** How error texts name an interceptor with a policy for messages alone; undefined if it is another one. */
export function messagePolicyNameOf(interceptor: unknown): string | undefined {
  const isClass = policyOfClass(interceptor) !== undefined;
  const type = isClass ? interceptor : classOf(interceptor);
  const policy = policyOfClass(type);
  if (policy === undefined || policy === 'correlation') return undefined;
  return isClass ? (type as Type).name : `new ${(type as Type).name}`;
}

/**
 * The policies in the `@UseInterceptors()` of a class or method.
 *
 * @param target the decorated class or method, as error texts name it
 * @param host the module of the controller
 */
export function findInterceptors(decorated: object, target: string, host: Module): FoundInterceptors {
  return collect(
    interceptorsOn(decorated).map((interceptor) => {
      if (policyOfClass(interceptor) === undefined) return describe(interceptor, target);
      const { name } = interceptor as Type;
      const made = instanceOf(interceptor as Type, host);
      return 'instance' in made
        ? describe(made.instance, target, name)
        : { name: `@UseInterceptors(${name}) of ${target}`, ...made };
    }),
  );
}

/**
 * The policies among the global interceptors, from `APP_INTERCEPTOR` and `useGlobalInterceptors()`.
 *
 * @param scoped those of `APP_INTERCEPTOR` with another scope than the default
 */
export function findGlobalInterceptors(
  interceptors: readonly unknown[],
  scoped: readonly InstanceWrapper[],
): FoundInterceptors {
  return collect([
    ...interceptors.map((interceptor) => {
      if (policyOfClass(interceptor) === undefined) return describe(interceptor, 'the application');
      const { name } = interceptor as Type;
      const expected = 'an instance, made with `new`';
      return { name: `useGlobalInterceptors(${name})`, expected, given: 'the class' };
    }),
    ...scoped.map((wrapper) => {
      const type: unknown = wrapper.isAlias ? wrapper.inject?.[0] : wrapper.metatype;
      if (policyOfClass(type) === undefined) return undefined;
      const { name } = type as Type;
      return { name: `APP_INTERCEPTOR (${name})`, expected: readAtBoot, given: scopeOf(wrapper) };
    }),
  ]);
}

function collect(found: readonly (BoundInterceptor | ConfigProblem | undefined)[]): FoundInterceptors {
  const bound: BoundInterceptor[] = [];
  const problems: ConfigProblem[] = [];
  for (const entry of found) {
    if (entry === undefined) continue;
    if ('policy' in entry) bound.push(entry);
    else problems.push(entry);
  }
  return { bound, problems };
}

/** @returns undefined if it carries no policy */
function describe(
  interceptor: unknown,
  target: string,
  boundClass?: string,
): BoundInterceptor | ConfigProblem | undefined {
  const type = classOf(interceptor);
  const policy = policyOfClass(type);
  if (policy === undefined) return undefined;
  const decoration = boundClass ?? `new ${(type as Type).name}`;
  const { options } = interceptor as { readonly options: object | undefined };
  if (options !== undefined) return { decoration, policy, options };
  // Nest 11 takes the prototype of a global interceptor that injects something request-scoped.
  const given = 'no options; was its constructor not called, because something it injects is request-scoped?';
  return { name: `${decoration} of ${target}`, expected: readAtBoot, given };
}

function classOf(instance: unknown): unknown {
  return typeof instance === 'object' && instance !== null ? instance.constructor : undefined;
}

/**
 * The instance that stands for a class in `@UseInterceptors()`: that of a provider of this class, if the
 * module sees one, else the one that Nest makes for the module. Nest itself calls only the latter, so that
 * the options of such a provider would be lost.
 */
function instanceOf(
  type: Type,
  host: Module,
): { readonly instance: unknown } | Pick<ConfigProblem, 'expected' | 'given'> {
  const own = host.injectables.get(type);
  // `overrideInterceptor()` of a testing module replaces the one that Nest makes.
  const isReplaced = own !== undefined && own.metatype !== type;
  const wrapper = isReplaced ? own : (providerOf(type, host) ?? own);
  if (wrapper === undefined) {
    const expected = 'a decorator that is applied before the application is created';
    return { expected, given: 'a class that Nest has not instantiated' };
  }
  if (wrapper.isTransient || !wrapper.isDependencyTreeStatic())
    return { expected: readAtBoot, given: scopeOf(wrapper) };
  if (!wrapper.inject && lacksArguments(wrapper.metatype)) {
    return {
      expected: 'a class with @Injectable(), whose constructor arguments Nest injects, or an instance',
      given: 'a constructor with arguments that Nest cannot inject',
    };
  }
  return { instance: wrapper.instance };
}

/** Looks a provider up as Nest's injector does for a class of the module. */
function providerOf(type: Type, { providers, imports }: Module): InstanceWrapper | undefined {
  return providers.get(type) ?? exportedProviderOf(type, imports, new Set());
}

function exportedProviderOf(
  type: Type,
  modules: Iterable<Module>,
  visited: Set<Module>,
): InstanceWrapper | undefined {
  for (const module of modules) {
    if (visited.has(module)) continue;
    visited.add(module);
    const { exports, providers } = module;
    const reExported = [...module.imports].filter(({ metatype }) => exports.has(metatype));
    const found =
      (exports.has(type) ? providers.get(type) : undefined) ?? exportedProviderOf(type, reExported, visited);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Nest constructs it without arguments, so that its options would be wrong. */
function lacksArguments(type: unknown): boolean {
  if (typeof type !== 'function' || type.length === 0) return false;
  return (
    !Reflect.hasMetadata(PARAMTYPES_METADATA, type) && !Reflect.hasMetadata(SELF_DECLARED_DEPS_METADATA, type)
  );
}

function scopeOf({ isTransient, scope }: InstanceWrapper): string {
  if (isTransient) return 'Scope.TRANSIENT';
  return scope === Scope.REQUEST ? 'Scope.REQUEST' : 'a request-scoped dependency';
}
