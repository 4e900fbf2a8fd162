import type { Module } from '@nestjs/core/injector/module.js';
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
import {
  findInterceptors,
  interceptorsOn,
  messagePolicyNameOf,
  type FoundInterceptors,
} from '../interceptors/bound-interceptors.js';
import type { CorrelationOptions } from '../interceptors/correlation.interceptor.js';
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
  readonly correlation: readonly Layer<CorrelationOptions>[];
  /** Why the options of interceptors cannot be read. */
  readonly problems: readonly ConfigProblem[];
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
  readonly correlation: readonly CorrelationOptions[];
}

/** Options of the module and the transport. */
export interface BasePolicyOptions extends PolicyOptions {
  readonly idempotency: readonly (IdempotencyTimes | undefined)[];
}

/**
 * Options of a class or a method. Decorators override interceptors.
 *
 * @param target the decorated class or method, as error texts name it
 * @param host the module of the controller
 */
export function policyLayersOf(decorated: object, target: string, host: Module): PolicyLayers {
  const found = findInterceptors(decorated, target, host);
  const layers = layersOfInterceptors(found, target, withRequestsEnabled);
  const retry = Reflect.getMetadata(retryMetadataKey, decorated) as RetryOptions | undefined;
  const deadLetter = Reflect.getMetadata(deadLetterMetadataKey, decorated) as DeadLetterOptions | undefined;
  const idempotent = Reflect.getMetadata(idempotentMetadataKey, decorated) as IdempotentOptions | undefined;
  return {
    ...layers,
    retry: [
      ...layers.retry,
      ...(retry === undefined ? [] : [{ decoration: '@Retry', target, options: withRequestsEnabled(retry) }]),
    ],
    deadLetter: [
      ...layers.deadLetter,
      ...(deadLetter === undefined
        ? []
        : [{ decoration: '@DeadLetter', target, options: withRequestsEnabled(deadLetter) }]),
    ],
    idempotency: [
      ...layers.idempotency,
      ...(idempotent === undefined ? [] : [{ decoration: '@Idempotent', target, options: idempotent }]),
    ],
  };
}

/**
 * The policies on a class or a method that only messages can have, as error texts name them. A
 * `CorrelationInterceptor` is for HTTP handlers too.
 */
export function policyNamesOf(decorated: object): string[] {
  return [
    ...interceptorsOn(decorated).flatMap((interceptor) => messagePolicyNameOf(interceptor) ?? []),
    ...Object.entries(decorators).flatMap(([name, key]) =>
      Reflect.hasMetadata(key, decorated) ? [name] : [],
    ),
  ];
}

const decorators = {
  '@Retry': retryMetadataKey,
  '@DeadLetter': deadLetterMetadataKey,
  '@Idempotent': idempotentMetadataKey,
};

/** @param complete sets the defaults that depend on where the interceptors are bound */
export function layersOfInterceptors(
  { bound, problems }: FoundInterceptors,
  target: string,
  complete: <Options extends RequestsOption>(options: Options) => Options = (options) => options,
): PolicyLayers {
  const retry: Layer<RetryOptions>[] = [];
  const deadLetter: Layer<DeadLetterOptions>[] = [];
  const idempotency: Layer<IdempotentOptions>[] = [];
  const correlation: Layer<CorrelationOptions>[] = [];
  for (const { decoration, ...given } of bound) {
    switch (given.policy) {
      case 'retry':
        retry.push({ decoration, target, options: complete(given.options) });
        break;
      case 'dead-letter':
        deadLetter.push({ decoration, target, options: complete(given.options) });
        break;
      case 'idempotency':
        idempotency.push({ decoration, target, options: given.options });
        break;
      case 'correlation':
        correlation.push({ decoration, target, options: given.options });
    }
  }
  return { retry, deadLetter, idempotency, correlation, problems };
}

/** @param all in ascending precedence */
export function joinLayers(...all: readonly PolicyLayers[]): PolicyLayers {
  return {
    retry: all.flatMap(({ retry }) => retry),
    deadLetter: all.flatMap(({ deadLetter }) => deadLetter),
    idempotency: all.flatMap(({ idempotency }) => idempotency),
    correlation: all.flatMap(({ correlation }) => correlation),
    problems: all.flatMap(({ problems }) => problems),
  };
}

export function validateLayers({ retry, deadLetter, idempotency, problems }: PolicyLayers): ConfigProblem[] {
  return [
    ...retry.flatMap((layer) => problemsOf(layer, validateRetryOptions)),
    ...deadLetter.flatMap((layer) => problemsOf(layer, validateDeadLetterOptions)),
    ...idempotency.flatMap((layer) => problemsOf(layer, validateIdempotentOptions)),
    ...problems,
  ];
}

/**
 * Omits invalid options: `validateLayers` reports them, and nothing derived from them may add a second
 * problem.
 */
export function validOptions({
  retry,
  deadLetter,
  idempotency,
  correlation,
}: PolicyLayers): BoundPolicyOptions {
  return {
    // Validated by its constructor.
    correlation: correlation.map(({ options }) => options),
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
