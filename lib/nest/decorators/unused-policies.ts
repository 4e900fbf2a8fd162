import type { Type } from '@nestjs/common';
import type { MetadataScanner } from '@nestjs/core';
import { PATTERN_METADATA, TRANSPORT_METADATA } from '@nestjs/microservices/constants.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { consumeMetadataKey } from './consume.decorator.js';
import { layersOf } from './policy-metadata.js';
import { namesOfVia } from './via.decorator.js';

/** Whether Nest takes message handlers from a class. */
export type ClassRole = 'controller' | 'provider';

const expected = 'a handler: a method of a controller with @EventPattern() or @MessagePattern()';

/** What a class and its methods say of policies where no message of ours comes by: it would never run. */
export function idlePolicies(target: Type, role: ClassRole, scanner: MetadataScanner): ConfigProblem[] {
  const prototype = target.prototype as Record<string, object>;
  const methods = scanner.getAllMethodNames(prototype).map((name) => ({
    place: `${target.name}.${name}`,
    callback: prototype[name]!,
  }));
  const idle = methods.flatMap(({ place, callback }) => {
    const given = whyNoHandler(callback, role);
    return given === undefined ? [] : problemsOf(wordsOf(callback, place), given);
  });
  if (methods.some(({ callback }) => whyNoHandler(callback, role) === undefined)) return idle;
  return [...problemsOf(ownWordsOf(target), 'a class without handlers'), ...idle];
}

/** What a base class says may be meant for others that extend it. */
function ownWordsOf(target: Type): string[] {
  const inherited = new Set(wordsOf(Object.getPrototypeOf(target) as object, target.name));
  return wordsOf(target, target.name).filter((word) => !inherited.has(word));
}

/** Undefined for a handler of ours. */
function whyNoHandler(callback: object, role: ClassRole): string | undefined {
  if (!Reflect.hasMetadata(PATTERN_METADATA, callback)) return 'a method that receives no messages';
  if (role === 'provider') return 'a method of a provider, where Nest looks for no handlers';
  const transport: unknown = Reflect.getMetadata(TRANSPORT_METADATA, callback);
  if (transport === undefined || namesOfVia(transport) !== undefined) return undefined;
  return 'a handler of a transport that is not of this library';
}

function problemsOf(words: readonly string[], given: string): ConfigProblem[] {
  return words.map((name) => ({ name, expected, given }));
}

/** The decorators and interceptors by which it says something, as they are told to people. */
function wordsOf(target: object, place: string): string[] {
  const layers = Object.values(layersOf(target, place)) as readonly (readonly { readonly what: string }[])[];
  const consume = Reflect.hasMetadata(consumeMetadataKey, target) ? ['@Consume'] : [];
  return [...layers.flat().map(({ what }) => what), ...consume].map((what) => `${what}() of ${place}`);
}
