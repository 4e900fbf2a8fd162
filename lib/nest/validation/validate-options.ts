import 'reflect-metadata';
import {
  Allow,
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
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';

/**
 * A class with one class-validator decorator for each option; the decorators' messages complete "expected
 * …".
 */
type Schema = new () => object;

const secretNames = /password|secret|token|sasl/i;

/** Every problem of `given`, unknown options included. */
export function validateOptions(schema: Schema, given: unknown, path: string): ConfigProblem[] {
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

function toProblem({ property, constraints = {}, value }: ValidationError, path: string): ConfigProblem {
  const unknown = 'whitelistValidation' in constraints;
  return {
    name: `${path}.${property}`,
    expected: unknown ? 'no such option' : Object.values(constraints)[0]!,
    given: secretNames.test(property) ? 'a secret' : printable(value),
  };
}

/** An optional integer in the given range, e.g. milliseconds. */
export function Integer(min: number, max: number = Number.MAX_SAFE_INTEGER): PropertyDecorator {
  const message =
    max === Number.MAX_SAFE_INTEGER ? `an integer from ${min} up` : `an integer from ${min} to ${max}`;
  return all(Optional(), IsInt({ message }), Min(min, { message }), Max(max, { message }));
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

/**
 * Accepts a missing option and `undefined`, e.g. from an absent environment variable. `null` is invalid.
 */
function Optional(): PropertyDecorator {
  return ValidateIf((_, value) => value !== undefined);
}

/** A value for which `holds` is true; `expected` completes the text "expected …". */
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

/** Like `Matching`, for an optional value. */
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

export function isFunction(value: unknown): boolean {
  return typeof value === 'function';
}

export function isCodec(value: unknown): boolean {
  const codec = value as { contentType?: unknown; encode?: unknown; decode?: unknown } | null | undefined;
  const { contentType, encode, decode } = codec ?? {};
  const isPlainType = typeof contentType === 'string' && /^[^;\sA-Z]+$/.test(contentType);
  return isPlainType && typeof encode === 'function' && typeof decode === 'function';
}

/**
 * RabbitMQ accepts 2^32 - 1 ms (49 days) for `x-expires`. The expiry of a retry queue exceeds its message
 * TTL, so a delay must stay clearly below that.
 */
export const maxRedeliveryDelayMs = 28 * 24 * 60 * 60 * 1_000;

export function isRedeliveryDelay(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= maxRedeliveryDelayMs;
}

/** Completes the text "expected …" for a list of codecs. */
export const codecs =
  'a list of codecs, each with contentType (lower case, no parameters), encode and decode';

export class CommonTransportSchema {
  @OneOf('all', 'explicit', 'none')
  handlers?: unknown;
  @OptionalMatching('true or false', (value) => typeof value === 'boolean')
  required?: unknown;
  @Integer(1, 100_000)
  concurrency?: unknown;
  @Integer(1)
  maxWaiting?: unknown;
  @Integer(1)
  maxBodyBytes?: unknown;
  @Integer(1)
  maxPending?: unknown;
  @Integer(1)
  publishTimeoutMs?: unknown;
  @Allow()
  onUnhandled?: unknown;
  @OptionalMatching('true or false', (value) => typeof value === 'boolean')
  exposeErrors?: unknown;
  @OptionalMatching(codecs, (value) => Array.isArray(value) && value.every(isCodec))
  codecs?: unknown;
  @Text()
  defaultContentType?: unknown;
  @Allow()
  retry?: unknown;
  @Allow()
  deadLetter?: unknown;
  @Allow()
  idempotency?: unknown;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
