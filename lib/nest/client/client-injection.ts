import {
  PARAMTYPES_METADATA,
  PROPERTY_DEPS_METADATA,
  SELF_DECLARED_DEPS_METADATA,
} from '@nestjs/common/constants.js';
import { LazyModuleLoader, ModuleRef, type ModulesContainer } from '@nestjs/core';
import { StorkClient } from './stork.client.js';
import { getClientToken } from './inject-client.decorator.js';

/**
 * Whether a provider, controller or injectable of the application injects one of the clients, or Nest's
 * `ModuleRef`, by which it can get one.
 */
export function mayObtainClient(modules: ModulesContainer, transports: readonly string[]): boolean {
  const clients = new Set<unknown>([StorkClient, ...transports.map(getClientToken)]);
  const sources = new Set<unknown>([...clients, ModuleRef, LazyModuleLoader]);
  const isSource = (token: unknown): boolean => sources.has(tokenOf(token));
  for (const { providers, controllers, injectables } of modules.values()) {
    for (const wrapper of [...providers.values(), ...controllers.values(), ...injectables.values()]) {
      // With a single transport, the provider `StorkClient` is an alias that injects the named client.
      if (clients.has(wrapper.token)) continue;
      const dependencies = wrapper.inject ?? dependenciesOf(wrapper.metatype);
      if (dependencies.some(isSource)) return true;
    }
  }
  return false;
}

/**
 * The constructor and property dependencies of a class, from the metadata that Nest's injector reads; of a
 * value none.
 */
function dependenciesOf(target: unknown): unknown[] {
  if (typeof target !== 'function') return [];
  const list = (key: string, of: object): readonly unknown[] =>
    (Reflect.getMetadata(key, of) as unknown[]) ?? [];
  const declared = list(SELF_DECLARED_DEPS_METADATA, target) as readonly { readonly param: unknown }[];
  const properties = list(PROPERTY_DEPS_METADATA, target) as readonly { readonly type: unknown }[];
  return [
    ...list(PARAMTYPES_METADATA, target),
    ...declared.map(({ param }) => param),
    ...properties.map(({ type }) => type),
  ];
}

/** Unwraps `{ token, optional }` and `forwardRef(() => token)`. */
function tokenOf(dependency: unknown): unknown {
  if (typeof dependency !== 'object' || dependency === null) return dependency;
  if ('token' in dependency) return dependency.token;
  return 'forwardRef' in dependency && typeof dependency.forwardRef === 'function'
    ? (dependency.forwardRef as () => unknown)()
    : dependency;
}
