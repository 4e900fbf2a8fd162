import { systemClock } from '../../core/runtime/clock.js';
import { Allow } from 'class-validator';
import { builtInCodecs, Codecs, type MessageCodec } from '../../core/message/codec.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';
import { validateDeadLetterOptions } from '../decorators/dead-letter.decorator.js';
import { validateIdempotencyOptions } from '../decorators/idempotent.decorator.js';
import type { CommonTransportOptions } from '../transport-options.js';
import { validateRetryOptions } from '../decorators/retry.decorator.js';
import { isTransportDefinition } from '../bootstrap/transport-definition.js';
import {
  validateOptions,
  codecs,
  Integer,
  isCodec,
  isRecord,
  Matching,
  OptionalMatching,
} from './validate-options.js';
import { validateUnhandled } from './validate-unhandled.js';

class ModuleSchema {
  @Matching(
    'at least one transport by name, each made by rabbitmq(), kafka() or memory()',
    (value) =>
      isRecord(value) && Object.keys(value).length > 0 && Object.values(value).every(isTransportDefinition),
  )
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

/** Every problem of the options of the module and its transports. */
export function validateModuleOptions(
  options: unknown,
  declaredTransports: readonly string[],
): ConfigProblem[] {
  const problems = validateOptions(ModuleSchema, options, 'StorkModule');
  if (isRecord(options)) problems.push(...validatePolicyOptions(options, 'StorkModule'));
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
    const found = [...definition.validate(`transports.${name}`)];
    found.push(
      ...validatePolicyOptions(definition.common, `transports.${name}`),
      ...validateUnhandled(definition.common.onUnhandled, `transports.${name}.onUnhandled`),
    );
    problems.push(...found);
    if (found.length === 0) problems.push(...validateContentType(name, definition.common, options));
  }
  const given = Object.keys(transports).toSorted().join(', ');
  const declared = declaredTransports.toSorted().join(', ');
  if (given !== declared) {
    problems.push({ name: 'transports', expected: `the names given to forRootAsync (${declared})`, given });
  }
  return problems;
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
