import {
  PARAMTYPES_METADATA,
  PROPERTY_DEPS_METADATA,
  SELF_DECLARED_DEPS_METADATA,
} from '@nestjs/common/constants.js';
import type { ModulesContainer } from '@nestjs/core';
import { StorkClient } from './stork.client.js';
import { getClientToken } from './inject-client.decorator.js';

/** Whether anything of the application has one of the clients injected. */
export function injectsClient(modules: ModulesContainer, transports: readonly string[]): boolean {
  const tokens = new Set<unknown>([StorkClient, ...transports.map(getClientToken)]);
  const isClient = (token: unknown): boolean => tokens.has(tokenOf(token));
  for (const { providers, controllers, injectables } of modules.values()) {
    for (const wrapper of [...providers.values(), ...controllers.values(), ...injectables.values()]) {
      // The clients' own providers name one another.
      if (tokens.has(wrapper.token)) continue;
      const wanted = wrapper.inject ?? dependenciesOf(wrapper.metatype);
      if (wanted.some(isClient)) return true;
    }
  }
  return false;
}

/** What the constructor and the properties of a class want, as Nest's injector reads it. Of a plain value nothing. */
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

/** An optional dependency is an object around its token; one that is declared later, a function behind another. */
function tokenOf(dependency: unknown): unknown {
  if (typeof dependency !== 'object' || dependency === null) return dependency;
  if ('token' in dependency) return dependency.token;
  return 'forwardRef' in dependency && typeof dependency.forwardRef === 'function'
    ? (dependency.forwardRef as () => unknown)()
    : dependency;
}
