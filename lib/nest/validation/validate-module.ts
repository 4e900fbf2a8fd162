import { systemClock } from '../../core/runtime/clock.js';
import { Allow } from 'class-validator';
import { builtInCodecs, Codecs, type MessageCodec } from '../../core/message/codec.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';
import { validateDeadLetterOptions } from '../decorators/dead-letter.decorator.js';
import { validateIdempotencyOptions } from '../decorators/idempotent.decorator.js';
import type { CommonTransportOptions } from '../transport-options.js';
import { validateRetryOptions } from '../decorators/retry.decorator.js';
import type { FeatureTransports } from '../bootstrap/feature-transports.js';
import { isTransportDefinition } from '../bootstrap/transport-definition.js';
import { validateOptions, codecs, Integer, isCodec, isRecord, OptionalMatching } from './validate-options.js';
import { validateUnhandled } from './validate-unhandled.js';

const transportsByName = 'transports by name, each made by rabbitmq(), kafka() or memory()';

function areTransports(value: unknown): boolean {
  return isRecord(value) && Object.values(value).every(isTransportDefinition);
}

class ModuleSchema {
  @OptionalMatching(transportsByName, areTransports)
  transports?: unknown;
  @OptionalMatching('true or false', (value) => typeof value === 'boolean')
  isGlobal?: unknown;
  @OptionalMatching('true or false', (value) => typeof value === 'boolean')
  exposeErrors?: unknown;
  @OptionalMatching(codecs, (value) => Array.isArray(value) && value.every(isCodec))
  codecs?: unknown;
  @Integer(0)
  drainTimeoutMs?: unknown;
  @Integer(1)
  startTimeoutMs?: unknown;
  @Allow()
  retry?: unknown;
  @Allow()
  deadLetter?: unknown;
  @Allow()
  idempotency?: unknown;
}

/** Every problem of the options of the module, of those of feature modules, and of all transports. */
export function validateModuleOptions(
  options: unknown,
  declaredTransports: readonly string[],
  features: readonly FeatureTransports[],
): ConfigProblem[] {
  const problems = validateOptions(ModuleSchema, options, 'StorkModule');
  if (isRecord(options)) problems.push(...validatePolicyOptions(options, 'StorkModule'));
  const ofRoot = isRecord(options) && isRecord(options['transports']) ? options['transports'] : {};
  const given = Object.keys(ofRoot).toSorted().join(', ');
  const declared = declaredTransports.toSorted().join(', ');
  if (given !== declared) {
    problems.push({ name: 'transports', expected: `the names given to forRootAsync (${declared})`, given });
  }
  const groups = [{ transports: ofRoot, source: 'forRoot()' }, ...features];
  problems.push(...groups.flatMap(({ transports }) => validateTransports(transports, options)));
  problems.push(...features.flatMap(validateFeature), ...repeatedNames(groups));
  if (problems.length > 0 || groups.some(({ transports }) => Object.keys(transports as object).length > 0))
    return problems;
  return [{ name: 'StorkModule.transports', expected: `at least one of ${transportsByName}`, given: 'none' }];
}

function validateFeature({ transports, source }: FeatureTransports): ConfigProblem[] {
  if (areTransports(transports)) return [];
  return [{ name: `StorkModule.${source}`, expected: transportsByName, given: printable(transports) }];
}

function validateTransports(transports: unknown, options: unknown): ConfigProblem[] {
  if (!isRecord(transports)) return [];
  return Object.entries(transports).flatMap(([name, definition]) => {
    const problems = /^[\w.-]+$/.test(name)
      ? []
      : [
          {
            name: `transports.${name}`,
            expected: 'a name of letters, digits, _, . and -',
            given: printable(name),
          },
        ];
    if (!isTransportDefinition(definition)) return problems;
    const found = [
      ...definition.validate(`transports.${name}`),
      ...validatePolicyOptions(definition.common, `transports.${name}`),
      ...validateUnhandled(definition.common.onUnhandled, `transports.${name}.onUnhandled`),
    ];
    if (found.length === 0) found.push(...validateContentType(name, definition.common, options));
    return [...problems, ...found];
  });
}

function repeatedNames(groups: readonly FeatureTransports[]): ConfigProblem[] {
  const sources = new Map<string, string>();
  return groups.flatMap(({ transports, source }) =>
    Object.keys(isRecord(transports) ? transports : {}).flatMap((name) => {
      const other = sources.get(name);
      sources.set(name, source);
      if (other === undefined) return [];
      const expected = 'a name that no other transport of the application has';
      return { name: `transports.${name}`, expected, given: `one in ${other} and one in ${source}` };
    }),
  );
}

function validatePolicyOptions(
  given: { readonly retry?: unknown; readonly deadLetter?: unknown; readonly idempotency?: unknown },
  path: string,
): ConfigProblem[] {
  const { retry, deadLetter, idempotency } = given;
  return [
    ...(retry === undefined ? [] : validateRetryOptions(retry, `${path}.retry`)),
    ...(deadLetter === undefined ? [] : validateDeadLetterOptions(deadLetter, `${path}.deadLetter`)),
    ...(idempotency === undefined ? [] : validateIdempotencyOptions(idempotency, `${path}.idempotency`)),
  ];
}

/**
 * Without a codec for the default content type, every message without a content type of its own would
 * fail.
 */
function validateContentType(
  name: string,
  common: CommonTransportOptions,
  options: unknown,
): ConfigProblem[] {
  const { defaultContentType, codecs: transportCodecs = [] } = common;
  const moduleCodecs = (options as { codecs?: unknown }).codecs;
  if (defaultContentType === undefined) return [];
  if (moduleCodecs !== undefined && !Array.isArray(moduleCodecs)) return [];
  const known = new Codecs(
    [...builtInCodecs, ...((moduleCodecs as MessageCodec[] | undefined) ?? []), ...transportCodecs],
    defaultContentType,
    systemClock,
  );
  if (known.codecFor(defaultContentType) !== undefined) return [];
  const expected = 'the content type of a codec';
  return [{ name: `transports.${name}.defaultContentType`, expected, given: printable(defaultContentType) }];
}
