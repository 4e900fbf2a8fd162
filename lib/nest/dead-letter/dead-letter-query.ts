import { maxWindow } from '../../core/port/dead-letter-store.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import {
  checkOptions,
  Integer,
  isFunction,
  isRecord,
  OptionalMatching,
  Text,
} from '../validation/validate-options.js';

const isTexts = (value: unknown): boolean =>
  Array.isArray(value) && value.every((one) => typeof one === 'string');
const isTime = (value: unknown): boolean => value instanceof Date && !Number.isNaN(value.getTime());
const texts = 'a list of texts';
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
  @OptionalMatching(texts, isTexts)
  ids?: unknown;
  @OptionalMatching(texts, isTexts)
  reasons?: unknown;
  @OptionalMatching(texts, isTexts)
  handlers?: unknown;
  @OptionalMatching(texts, isTexts)
  patterns?: unknown;
  @OptionalMatching(time, isTime)
  since?: unknown;
  @OptionalMatching(time, isTime)
  until?: unknown;
  @OptionalMatching(
    'texts by header name',
    (value) => isRecord(value) && Object.values(value).every((one) => typeof one === 'string'),
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

/** A filter that is misspelt would mean every letter. */
export function checkDeadLetterQuery(given: unknown): ConfigProblem[] {
  return checkOptions(DeadLetterQuerySchema, given, 'query');
}
