var __decorate =
  (this && this.__decorate) ||
  function (decorators, target, key, desc) {
    var c = arguments.length,
      r = c < 3 ? target : desc === null ? (desc = Object.getOwnPropertyDescriptor(target, key)) : desc,
      d;
    if (typeof Reflect === 'object' && typeof Reflect.decorate === 'function')
      r = Reflect.decorate(decorators, target, key, desc);
    else
      for (var i = decorators.length - 1; i >= 0; i--)
        if ((d = decorators[i])) r = (c < 3 ? d(r) : c > 3 ? d(target, key, r) : d(target, key)) || r;
    return (c > 3 && r && Object.defineProperty(target, key, r), r);
  };
var __metadata =
  (this && this.__metadata) ||
  function (k, v) {
    if (typeof Reflect === 'object' && typeof Reflect.metadata === 'function') return Reflect.metadata(k, v);
  };
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
} from 'class-validator';
import { builtInCodecs, Codecs } from '../core/codec.js';
import { printable } from '../core/text.js';
import { isTransportDefinition } from './transport-definition.js';
const secretNames = /password|secret|token|sasl/i;
/** Every problem of `given`, unknown options included. */
export function checkOptions(schema, given, path) {
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
function toProblem({ property, constraints = {}, value }, path) {
  const unknown = 'whitelistValidation' in constraints;
  return {
    name: `${path}.${property}`,
    expected: unknown ? 'no such option' : Object.values(constraints)[0],
    given: secretNames.test(property) ? 'a secret' : printable(value),
  };
}
/** An integer with its unit in the option's name. */
export function Integer(least, most = Number.MAX_SAFE_INTEGER) {
  const message =
    most === Number.MAX_SAFE_INTEGER ? `an integer from ${least} up` : `an integer from ${least} to ${most}`;
  return all(Optional(), IsInt({ message }), Min(least, { message }), Max(most, { message }));
}
export function OneOf(...values) {
  return all(
    Optional(),
    IsIn(values, { message: `one of ${values.map((value) => `'${value}'`).join(', ')}` }),
  );
}
export function Text() {
  return all(Optional(), IsString({ message: 'text' }), MinLength(1, { message: 'text that is not empty' }));
}
/** Left out, or `undefined` as an absent environment variable; `null` is a value, and a wrong one. */
function Optional() {
  return ValidateIf((_, value) => value !== undefined);
}
/** Anything that `holds`; `expected` completes "expected …". */
export function Matching(expected, holds) {
  const validator = {
    validate: (value, args) => holds(value, args?.object ?? {}),
    defaultMessage: () => expected,
  };
  return ValidateBy({ name: 'matching', validator });
}
/** Like `Matching`, for an option that may be left out. */
export function OptionalMatching(expected, holds) {
  return all(Optional(), Matching(expected, holds));
}
function all(...decorators) {
  return (target, property) => {
    for (const decorate of decorators) decorate(target, property);
  };
}
export function isCodec(value) {
  const codec = value;
  const { contentType, encode, decode } = codec ?? {};
  const isPlainType = typeof contentType === 'string' && /^[^;\sA-Z]+$/.test(contentType);
  return isPlainType && typeof encode === 'function' && typeof decode === 'function';
}
const codecs = 'a list of codecs, each with contentType (lower case, no parameters), encode and decode';
export class CommonTransportSchema {
  handlers;
  concurrency;
  maxBodyBytes;
  maxPending;
  onUnhandled;
  codecs;
  defaultContentType;
}
__decorate(
  [OneOf('all', 'via-only', 'none'), __metadata('design:type', Object)],
  CommonTransportSchema.prototype,
  'handlers',
  void 0,
);
__decorate(
  [Integer(1, 100_000), __metadata('design:type', Object)],
  CommonTransportSchema.prototype,
  'concurrency',
  void 0,
);
__decorate(
  [Integer(1), __metadata('design:type', Object)],
  CommonTransportSchema.prototype,
  'maxBodyBytes',
  void 0,
);
__decorate(
  [Integer(1), __metadata('design:type', Object)],
  CommonTransportSchema.prototype,
  'maxPending',
  void 0,
);
__decorate(
  [OneOf('dead-letter', 'skip'), __metadata('design:type', Object)],
  CommonTransportSchema.prototype,
  'onUnhandled',
  void 0,
);
__decorate(
  [
    OptionalMatching(codecs, (value) => Array.isArray(value) && value.every(isCodec)),
    __metadata('design:type', Object),
  ],
  CommonTransportSchema.prototype,
  'codecs',
  void 0,
);
__decorate(
  [Text(), __metadata('design:type', Object)],
  CommonTransportSchema.prototype,
  'defaultContentType',
  void 0,
);
class ModuleSchema {
  transports;
  isGlobal;
  codecs;
  drainTimeoutMs;
  startTimeoutMs;
}
__decorate(
  [
    Matching(
      'at least one transport by name, each made by rabbitmq(), kafka() or memory()',
      (value) =>
        isRecord(value) && Object.keys(value).length > 0 && Object.values(value).every(isTransportDefinition),
    ),
    __metadata('design:type', Object),
  ],
  ModuleSchema.prototype,
  'transports',
  void 0,
);
__decorate(
  [
    OptionalMatching('true or false', (value) => typeof value === 'boolean'),
    __metadata('design:type', Object),
  ],
  ModuleSchema.prototype,
  'isGlobal',
  void 0,
);
__decorate(
  [
    OptionalMatching(codecs, (value) => Array.isArray(value) && value.every(isCodec)),
    __metadata('design:type', Object),
  ],
  ModuleSchema.prototype,
  'codecs',
  void 0,
);
__decorate([Integer(0), __metadata('design:type', Object)], ModuleSchema.prototype, 'drainTimeoutMs', void 0);
__decorate([Integer(1), __metadata('design:type', Object)], ModuleSchema.prototype, 'startTimeoutMs', void 0);
/** Every problem of the module's options and of those of its transports, replaced transports left out by their definition. */
export function checkModuleOptions(options, declaredTransports) {
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
function checkContentType(name, common, options) {
  const { defaultContentType, codecs: own = [] } = common;
  const shared = options.codecs;
  if (defaultContentType === undefined || (shared !== undefined && !Array.isArray(shared))) return [];
  const known = new Codecs([...builtInCodecs, ...(shared ?? []), ...own], defaultContentType);
  if (known.knows(defaultContentType) !== undefined) return [];
  const expected = 'the content type of a codec';
  return [{ name: `transports.${name}.defaultContentType`, expected, given: printable(defaultContentType) }];
}
function isRecord(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
