import type { Type } from '@nestjs/common';
import { INTERCEPTORS_METADATA } from '@nestjs/common/constants.js';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { IdempotencyTimes } from '../../core/idempotency/idempotency-options.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import { validateDeadLetterOptions, deadLetterMetadataKey } from './dead-letter.decorator.js';
import {
  validateIdempotentOptions,
  idempotentMetadataKey,
  type IdempotentOptions,
} from './idempotent.decorator.js';
import { policyOf } from '../interceptors/policy.interceptors.js';
import { validateRetryOptions, retryMetadataKey } from './retry.decorator.js';

/** Options that one decorator or interceptor gives for a policy, before validation. */
export interface Layer<Options> {
  /** As error texts name it, e.g. `@Retry`. */
  readonly decoration: string;
  /** The decorated class or method. */
  readonly target: string;
  readonly options: Options;
}

/** Each list is in ascending precedence. */
export interface PolicyLayers {
  readonly retry: readonly Layer<RetryOptions>[];
  readonly deadLetter: readonly Layer<DeadLetterOptions>[];
  readonly idempotency: readonly Layer<IdempotentOptions>[];
  /**
   * Subclasses of the policy interceptors: Nest instantiates them after the handlers are bound, so their
   * options are unknown.
   */
  readonly unresolved: readonly Layer<unknown>[];
}

/** Validated options in ascending precedence. */
export interface PolicyOptions {
  readonly retry: readonly (RetryOptions | undefined)[];
  readonly deadLetter: readonly (DeadLetterOptions | undefined)[];
}

/**
 * Options of handlers and interceptors. Any entry of `idempotency` makes the handler idempotent; the
 * module's options do not.
 */
export interface BoundPolicyOptions extends PolicyOptions {
  readonly idempotency: readonly IdempotentOptions[];
}

/** Options of the module and the transport. */
export interface BasePolicyOptions extends PolicyOptions {
  readonly idempotency: readonly (IdempotencyTimes | undefined)[];
}

/** Options of a class or a method. Decorators override interceptors. */
export function policyLayersOf(decorated: object, target: string): PolicyLayers {
  const interceptors = Reflect.getMetadata(INTERCEPTORS_METADATA, decorated) as
    readonly unknown[] | undefined;
  const fromInterceptors = layersOfInterceptors(interceptors ?? [], target, withRequestsEnabled);
  const retry = Reflect.getMetadata(retryMetadataKey, decorated) as RetryOptions | undefined;
  const deadLetter = Reflect.getMetadata(deadLetterMetadataKey, decorated) as DeadLetterOptions | undefined;
  const idempotent = Reflect.getMetadata(idempotentMetadataKey, decorated) as IdempotentOptions | undefined;
  return {
    unresolved: fromInterceptors.unresolved,
    retry: [
      ...fromInterceptors.retry,
      ...(retry === undefined ? [] : [{ decoration: '@Retry', target, options: withRequestsEnabled(retry) }]),
    ],
    deadLetter: [
      ...fromInterceptors.deadLetter,
      ...(deadLetter === undefined
        ? []
        : [{ decoration: '@DeadLetter', target, options: withRequestsEnabled(deadLetter) }]),
    ],
    idempotency: [
      ...fromInterceptors.idempotency,
      ...(idempotent === undefined ? [] : [{ decoration: '@Idempotent', target, options: idempotent }]),
    ],
  };
}

/** @param complete sets the defaults that depend on where the interceptors are bound */
export function layersOfInterceptors(
  interceptors: readonly unknown[],
  target: string,
  complete: <Options extends RequestsOption>(options: Options) => Options = (options) => options,
): PolicyLayers {
  const retry: Layer<RetryOptions>[] = [];
  const deadLetter: Layer<DeadLetterOptions>[] = [];
  const idempotency: Layer<IdempotentOptions>[] = [];
  const unresolved: Layer<unknown>[] = [];
  for (const interceptor of interceptors) {
    const given = policyOf(interceptor);
    switch (given?.policy) {
      case 'retry':
        retry.push({ decoration: 'new RetryInterceptor', target, options: complete(given.options) });
        break;
      case 'dead-letter':
        deadLetter.push({
          decoration: 'new DeadLetterInterceptor',
          target,
          options: complete(given.options),
        });
        break;
      case 'idempotency':
        idempotency.push({ decoration: 'new IdempotencyInterceptor', target, options: given.options });
        break;
      case 'unresolved':
        unresolved.push({ decoration: '@UseInterceptors', target, options: interceptor });
        break;
      case undefined:
    }
  }
  return { retry, deadLetter, idempotency, unresolved };
}

/** @param all in ascending precedence */
export function joinLayers(...all: readonly PolicyLayers[]): PolicyLayers {
  return {
    retry: all.flatMap(({ retry }) => retry),
    deadLetter: all.flatMap(({ deadLetter }) => deadLetter),
    idempotency: all.flatMap(({ idempotency }) => idempotency),
    unresolved: all.flatMap(({ unresolved }) => unresolved),
  };
}

export function validateLayers({
  retry,
  deadLetter,
  idempotency,
  unresolved,
}: PolicyLayers): ConfigProblem[] {
  return [
    ...retry.flatMap((layer) => problemsOf(layer, validateRetryOptions)),
    ...deadLetter.flatMap((layer) => problemsOf(layer, validateDeadLetterOptions)),
    ...idempotency.flatMap((layer) => problemsOf(layer, validateIdempotentOptions)),
    ...unresolved.map(({ decoration, target, options }) => ({
      name: `${decoration}(${(options as Type).name}) of ${target}`,
      expected:
        'an instance, made with `new`: its options are read when handlers are bound, before Nest instantiates the class',
      given: 'the class',
    })),
  ];
}

/**
 * Omits invalid options: `validateLayers` reports them, and nothing derived from them may add a second
 * problem.
 */
export function validOptions({ retry, deadLetter, idempotency }: PolicyLayers): BoundPolicyOptions {
  return {
    retry: onlyValid(retry, validateRetryOptions),
    deadLetter: onlyValid(deadLetter, validateDeadLetterOptions),
    idempotency: onlyValid(idempotency, validateIdempotentOptions),
  };
}

function onlyValid<Options>(
  layers: readonly Layer<Options>[],
  check: (given: unknown, path: string) => ConfigProblem[],
): Options[] {
  return layers.map(({ options }) => options).filter((options) => check(options, '').length === 0);
}

function problemsOf(
  { decoration, target, options }: Layer<unknown>,
  check: (given: unknown, path: string) => ConfigProblem[],
): ConfigProblem[] {
  return check(options, '').map(({ name, ...problem }) => ({
    name: name === '' ? `${decoration}() of ${target}` : `${decoration}({ ${name.slice(1)} }) of ${target}`,
    ...problem,
  }));
}

interface RequestsOption {
  readonly requests?: boolean | undefined;
}

/**
 * On a handler or its class `@Retry()`, `@DeadLetter()` and their interceptors cover requests too, unlike
 * the options of the application. Leaves non-objects to validation.
 */
function withRequestsEnabled<Options extends RequestsOption>(options: Options): Options {
  const isObject = typeof options === 'object' && options !== null && !Array.isArray(options);
  return isObject ? { requests: true, ...options } : options;
}
