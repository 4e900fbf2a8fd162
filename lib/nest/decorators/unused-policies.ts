import type { Type } from '@nestjs/common';
import type { MetadataScanner } from '@nestjs/core';
import { PATTERN_METADATA, TRANSPORT_METADATA } from '@nestjs/microservices/constants.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { consumeMetadataKey } from './consume.decorator.js';
import { policyNamesOf } from './policy-metadata.js';
import { namesOfVia } from './via.decorator.js';

/** Nest registers the message handlers of controllers, not those of providers. */
export type ClassRole = 'controller' | 'provider';

const expected = 'a handler: a method of a controller with @EventPattern() or @MessagePattern()';

/**
 * Policies and `@Consume()` on a class or a method that receives no messages through stork: they would
 * have no effect.
 */
export function findUnusedPolicies(type: Type, role: ClassRole, scanner: MetadataScanner): ConfigProblem[] {
  const prototype = type.prototype as Record<string, object>;
  const methods = scanner.getAllMethodNames(prototype).map((name) => ({
    target: `${type.name}.${name}`,
    callback: prototype[name]!,
  }));
  const unused = methods.flatMap(({ target, callback }) => {
    const reason = whyNotHandler(callback, role);
    return reason === undefined ? [] : problemsOf(decorationsOf(callback, target), reason);
  });
  if (methods.some(({ callback }) => whyNotHandler(callback, role) === undefined)) return unused;
  return [...problemsOf(ownDecorationsOf(type), 'a class without handlers'), ...unused];
}

/** Without those of the base class, which may be meant for other subclasses. */
function ownDecorationsOf(type: Type): string[] {
  const inherited = new Set(decorationsOf(Object.getPrototypeOf(type) as object, type.name));
  return decorationsOf(type, type.name).filter((decoration) => !inherited.has(decoration));
}

/** Undefined for a handler that stork can serve. */
function whyNotHandler(callback: object, role: ClassRole): string | undefined {
  if (!Reflect.hasMetadata(PATTERN_METADATA, callback)) return 'a method that receives no messages';
  if (role === 'provider') return 'a method of a provider, where Nest looks for no handlers';
  const transport: unknown = Reflect.getMetadata(TRANSPORT_METADATA, callback);
  if (transport === undefined || namesOfVia(transport) !== undefined) return undefined;
  return 'a handler of a transport that is not of this library';
}

function problemsOf(decorations: readonly string[], given: string): ConfigProblem[] {
  return decorations.map((name) => ({ name, expected, given }));
}

/** The policy decorators and interceptors of a class or a method, as error texts name them. */
function decorationsOf(decorated: object, target: string): string[] {
  const consume = Reflect.hasMetadata(consumeMetadataKey, decorated) ? ['@Consume'] : [];
  return [...policyNamesOf(decorated), ...consume].map((decoration) => `${decoration}() of ${target}`);
}
