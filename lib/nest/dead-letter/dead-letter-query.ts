import { maxWindow } from '../../core/port/dead-letter-store.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import {
  validateOptions,
  Integer,
  isFunction,
  isRecord,
  OptionalMatching,
  Text,
} from '../validation/validate-options.js';

const isStrings = (value: unknown): boolean =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');
const isTime = (value: unknown): boolean => value instanceof Date && !Number.isNaN(value.getTime());
const strings = 'a list of strings';
const time = 'a valid Date';

class DeadLetterQuerySchema {
  @Text()
  transport?: unknown;
  @Text()
  source?: unknown;
  @Text()
  from?: unknown;
  @Integer(1)
  deliveryLimit?: unknown;
  @OptionalMatching('an AbortSignal', (value) => value instanceof AbortSignal)
  signal?: unknown;
  @OptionalMatching(strings, isStrings)
  ids?: unknown;
  @OptionalMatching(strings, isStrings)
  reasons?: unknown;
  @OptionalMatching(strings, isStrings)
  handlers?: unknown;
  @OptionalMatching(strings, isStrings)
  patterns?: unknown;
  @OptionalMatching(strings, isStrings)
  messageIds?: unknown;
  @OptionalMatching(strings, isStrings)
  correlationIds?: unknown;
  @OptionalMatching(time, isTime)
  since?: unknown;
  @OptionalMatching(time, isTime)
  until?: unknown;
  @OptionalMatching(
    'strings by header name',
    (value) => isRecord(value) && Object.values(value).every((item) => typeof item === 'string'),
  )
  headers?: unknown;
  @Text()
  text?: unknown;
  @Integer(1)
  max?: unknown;
  @OptionalMatching('true or false', (value) => typeof value === 'boolean')
  dryRun?: unknown;
  @OptionalMatching('a number above 0', (value) => Number.isFinite(value) && (value as number) > 0)
  rate?: unknown;
  @Integer(1, maxWindow)
  window?: unknown;
  @Integer(0)
  maxReplays?: unknown;
  @OptionalMatching('a function', isFunction)
  onProgress?: unknown;
}

/** Refuses unknown fields: a misspelt filter would match every dead letter. */
export function validateDeadLetterQuery(given: unknown): ConfigProblem[] {
  return validateOptions(DeadLetterQuerySchema, given, 'query');
}
