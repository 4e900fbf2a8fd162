import { printable } from '../../core/message/text.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import {
  isRecord,
  isRedeliveryDelay,
  Matching,
  maxRedeliveryDelayMs,
  validateOptions,
} from './validate-options.js';

/** `readCount` reads at most 9 digits; this stays below. */
const maxTimes = 1_000_000;

class UnhandledRedeliverySchema {
  @Matching(`an integer from 1 to ${maxRedeliveryDelayMs}, 28 days`, isRedeliveryDelay)
  redeliverMs?: unknown;
  @Matching(
    `an integer from 1 to ${maxTimes}`,
    (value) => Number.isInteger(value) && (value as number) >= 1 && (value as number) <= maxTimes,
  )
  times?: unknown;
}

export function validateUnhandled(given: unknown, path: string): ConfigProblem[] {
  if (given === undefined || given === 'dead-letter' || given === 'skip') return [];
  if (isRecord(given)) return validateOptions(UnhandledRedeliverySchema, given, path);
  const expected = "'dead-letter', 'skip' or { redeliverMs, times }";
  return [{ name: path, expected, given: printable(given) }];
}
