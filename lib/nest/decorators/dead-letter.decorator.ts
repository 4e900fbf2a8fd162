import { SetMetadata } from '@nestjs/common';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { validateOptions, isFunction, OptionalMatching, Text } from '../validation/validate-options.js';

export const deadLetterMetadataKey = 'nestjs-stork:dead-letter';

/**
 * Sets how messages are dead-lettered when the handler's last attempt has failed. On a class it applies to
 * all its handlers. Requests are dead-lettered too, unless `requests: false`.
 *
 * Options merge field by field: module < transport < class < method.
 *
 * @publicApi
 */
export function DeadLetter(options: DeadLetterOptions = {}): MethodDecorator & ClassDecorator {
  return SetMetadata(deadLetterMetadataKey, options);
}

const isFlag = (value: unknown): boolean => typeof value === 'boolean';

class DeadLetterSchema {
  @OptionalMatching('true or false', isFlag)
  enabled?: unknown;
  @OptionalMatching('true or false', isFlag)
  requests?: unknown;
  @OptionalMatching('true or false', isFlag)
  includeStack?: unknown;
  @Text()
  queue?: unknown;
  @Text()
  topic?: unknown;
  @OptionalMatching('a function', isFunction)
  redact?: unknown;
  @OptionalMatching('a function', isFunction)
  onDeadLetter?: unknown;
}

export function validateDeadLetterOptions(given: unknown, path: string): ConfigProblem[] {
  return validateOptions(DeadLetterSchema, given, path);
}
