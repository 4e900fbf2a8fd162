import 'reflect-metadata';
import {
  IsIn,
  IsInt,
  IsString,
  Max,
  Min,
  MinLength,
  ValidateBy,
  ValidateIf,
  validateSync,
  type ValidationError,
} from 'class-validator';
import { builtInCodecs, Codecs, type Codec } from '../core/codec.js';
import type { Problem } from '../core/errors.js';
import { printable } from '../core/text.js';
import type { CommonTransportOptions } from './options.js';
import { isTransportDefinition } from './transport-definition.js';

/** Options are validated as instances of a class whose decorators' messages say what is expected. */
type Schema = new () => object;

const secretNames = /password|secret|token|sasl/i;

/** Every problem of `given`, unknown options included. */
export function checkOptions(schema: Schema, given: unknown, path: string): Problem[] {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    return [{ name: path, expected: 'an object of options', given: printable(given) }];
  }
  const instance = Object.assign(new schema(), given);
  const errors = validateSync(instance, {
    whitelist: true,
    forbidNonWhitelisted: true,
    forbidUnknownValues: false,
  });
  return errors.map((error) => toProblem(error, path));
}

function toProblem({ property, constraints = {}, value }: ValidationError, path: string): Problem {
  const unknown = 'whitelistValidation' in constraints;
  return {
    name: `${path}.${property}`,
    expected: unknown ? 'no such option' : Object.values(constraints)[0]!,
    given: secretNames.test(property) ? 'a secret' : printable(value),
  };
}

/** An integer with its unit in the option's name. */
export function Integer(least: number, most: number = Number.MAX_SAFE_INTEGER): PropertyDecorator {
  const message =
    most === Number.MAX_SAFE_INTEGER ? `an integer from ${least} up` : `an integer from ${least} to ${most}`;
  return all(Optional(), IsInt({ message }), Min(least, { message }), Max(most, { message }));
}

export function OneOf(...values: readonly string[]): PropertyDecorator {
  return all(
    Optional(),
    IsIn(values, { message: `one of ${values.map((value) => `'${value}'`).join(', ')}` }),
  );
}

export function Text(): PropertyDecorator {
  return all(Optional(), IsString({ message: 'text' }), MinLength(1, { message: 'text that is not empty' }));
}

/** Left out, or `undefined` as an absent environment variable; `null` is a value, and a wrong one. */
function Optional(): PropertyDecorator {
  return ValidateIf((_, value) => value !== undefined);
}

/** Anything that `holds`; `expected` completes "expected …". */
export function Matching(
  expected: string,
  holds: (value: unknown, options: object) => boolean,
): PropertyDecorator {
  const validator = {
    validate: (value: unknown, args?: { object: object }) => holds(value, args?.object ?? {}),
    defaultMessage: () => expected,
  };
  return ValidateBy({ name: 'matching', validator });
}

/** Like `Matching`, for an option that may be left out. */
export function OptionalMatching(
  expected: string,
  holds: (value: unknown, options: object) => boolean,
): PropertyDecorator {
  return all(Optional(), Matching(expected, holds));
}

function all(...decorators: readonly PropertyDecorator[]): PropertyDecorator {
  return (target, property) => {
    for (const decorate of decorators) decorate(target, property);
  };
}

export function isCodec(value: unknown): boolean {
  const codec = value as { contentType?: unknown; encode?: unknown; decode?: unknown } | null | undefined;
  const { contentType, encode, decode } = codec ?? {};
  const isPlainType = typeof contentType === 'string' && /^[^;\sA-Z]+$/.test(contentType);
  return isPlainType && typeof encode === 'function' && typeof decode === 'function';
}

const codecs = 'a list of codecs, each with contentType (lower case, no parameters), encode and decode';

export class CommonTransportSchema {
  @OneOf('all', 'via-only', 'none')
  handlers?: unknown;
  @Integer(1, 100_000)
  concurrency?: unknown;
  @Integer(1)
  maxBodyBytes?: unknown;
  @Integer(1)
  maxPending?: unknown;
  @OneOf('dead-letter', 'skip')
  onUnhandled?: unknown;
  @OptionalMatching(codecs, (value) => Array.isArray(value) && value.every(isCodec))
  codecs?: unknown;
  @Text()
  defaultContentType?: unknown;
}

class ModuleSchema {
  @Matching(
    'at least one transport by name, each made by rabbitmq(), kafka() or memory()',
    (value) =>
      isRecord(value) && Object.keys(value).length > 0 && Object.values(value).every(isTransportDefinition),
  )
  transports?: unknown;
  @OptionalMatching('true or false', (value) => typeof value === 'boolean')
  isGlobal?: unknown;
  @OptionalMatching(codecs, (value) => Array.isArray(value) && value.every(isCodec))
  codecs?: unknown;
  @Integer(0)
  drainTimeoutMs?: unknown;
  @Integer(1)
  startTimeoutMs?: unknown;
}

/** Every problem of the module's options and of those of its transports, replaced transports left out by their definition. */
export function checkModuleOptions(options: unknown, declaredTransports: readonly string[]): Problem[] {
  const problems = checkOptions(ModuleSchema, options, 'StorkModule');
  const transports = isRecord(options) && isRecord(options['transports']) ? options['transports'] : {};
  for (const [name, definition] of Object.entries(transports)) {
    if (!/^[\w.-]+$/.test(name)) {
      problems.push({
        name: `transports.${name}`,
        expected: 'a name of letters, digits, _, . and -',
        given: printable(name),
      });
    }
    if (!isTransportDefinition(definition)) continue;
    const found = definition.validate(`transports.${name}`);
    problems.push(...found);
    if (found.length === 0) problems.push(...checkContentType(name, definition.common, options));
  }
  const given = Object.keys(transports).toSorted().join(', ');
  const declared = declaredTransports.toSorted().join(', ');
  if (given !== declared) {
    problems.push({ name: 'transports', expected: `the names given to forRootAsync (${declared})`, given });
  }
  return problems;
}

/** A default that nothing can write would fail every plain message. */
function checkContentType(name: string, common: CommonTransportOptions, options: unknown): Problem[] {
  const { defaultContentType, codecs: own = [] } = common;
  const shared = (options as { codecs?: unknown }).codecs;
  if (defaultContentType === undefined || (shared !== undefined && !Array.isArray(shared))) return [];
  const known = new Codecs(
    [...builtInCodecs, ...((shared as Codec[] | undefined) ?? []), ...own],
    defaultContentType,
  );
  if (known.knows(defaultContentType) !== undefined) return [];
  const expected = 'the content type of a codec';
  return [{ name: `transports.${name}.defaultContentType`, expected, given: printable(defaultContentType) }];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
