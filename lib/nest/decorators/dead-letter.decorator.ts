import { Reflector } from '@nestjs/core';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { checkOptions, isFunction, OptionalMatching, Text } from '../validation/validate-options.js';

const DeadLetterMetadata = Reflector.createDecorator<DeadLetterOptions>();

/**
 * Says what is kept of messages that a handler has failed for good, requests included; on a class, of all its handlers. Field by field a
 * method's word wins over its class's, and that over the transport's and the module's.
 *
 * @publicApi
 */
export function DeadLetter(options: DeadLetterOptions = {}): MethodDecorator & ClassDecorator {
  return DeadLetterMetadata(options);
}

export const deadLetterMetadataKey: string = DeadLetterMetadata.KEY;

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

export function checkDeadLetter(given: unknown, path: string): ConfigProblem[] {
  return checkOptions(DeadLetterSchema, given, path);
}
