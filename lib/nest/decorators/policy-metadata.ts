import type { Type } from '@nestjs/common';
import { INTERCEPTORS_METADATA } from '@nestjs/common/constants.js';
import type { DeadLetterOptions } from '../../core/dead-letter/dead-letter-options.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { IdempotencyTimes } from '../../core/idempotency/idempotency-options.js';
import type { RetryOptions } from '../../core/retry/retry-options.js';
import { checkDeadLetter, deadLetterMetadataKey } from './dead-letter.decorator.js';
import { checkIdempotent, idempotentMetadataKey, type IdempotentOptions } from './idempotent.decorator.js';
import {
  DeadLetterInterceptor,
  IdempotencyInterceptor,
  RetryInterceptor,
} from '../interceptors/policy.interceptors.js';
import { checkRetry, retryMetadataKey } from './retry.decorator.js';

/** What one decorator, or one interceptor bound by hand, says of a policy; unchecked. */
export interface Layer<Options> {
  /** How it is told to people, e.g. `@Retry()`. */
  readonly what: string;
  /** The class or method that carries it. */
  readonly place: string;
  readonly options: Options;
}

/** Each list from the weakest word to the strongest. */
export interface PolicyLayers {
  readonly retry: readonly Layer<RetryOptions>[];
  readonly deadLetter: readonly Layer<DeadLetterOptions>[];
  readonly idempotency: readonly Layer<IdempotentOptions>[];
  /** Interceptors of ours that only Nest could make: what they would say is not known when handlers are bound. */
  readonly unread: readonly Layer<unknown>[];
}

/** Checked, from the weakest word to the strongest. */
export interface PolicyOptions {
  readonly retry: readonly (RetryOptions | undefined)[];
  readonly deadLetter: readonly (DeadLetterOptions | undefined)[];
}

/** What handlers and interceptors say: that of idempotency makes a handler so, which its module cannot. */
export interface BoundPolicyOptions extends PolicyOptions {
  readonly idempotency: readonly IdempotentOptions[];
}

/** What a transport and its module say. */
export interface BasePolicyOptions extends PolicyOptions {
  readonly idempotency: readonly (IdempotencyTimes | undefined)[];
}

/** What a class or a method says. An interceptor bound by hand is the weaker word: it may stand for many. */
export function layersOf(target: object, place: string): PolicyLayers {
  const bound = Reflect.getMetadata(INTERCEPTORS_METADATA, target) as readonly unknown[] | undefined;
  const byHand = layersOfInterceptors(bound ?? [], place);
  const retry = Reflect.getMetadata(retryMetadataKey, target) as RetryOptions | undefined;
  const deadLetter = Reflect.getMetadata(deadLetterMetadataKey, target) as DeadLetterOptions | undefined;
  const idempotent = Reflect.getMetadata(idempotentMetadataKey, target) as IdempotentOptions | undefined;
  return {
    unread: byHand.unread,
    retry: [...byHand.retry, ...(retry === undefined ? [] : [{ what: '@Retry', place, options: retry }])],
    deadLetter: [
      ...byHand.deadLetter,
      ...(deadLetter === undefined ? [] : [{ what: '@DeadLetter', place, options: asking(deadLetter) }]),
    ],
    idempotency: [
      ...byHand.idempotency,
      ...(idempotent === undefined ? [] : [{ what: '@Idempotent', place, options: idempotent }]),
    ],
  };
}

export function layersOfInterceptors(interceptors: readonly unknown[], place: string): PolicyLayers {
  const retry: Layer<RetryOptions>[] = [];
  const deadLetter: Layer<DeadLetterOptions>[] = [];
  const idempotency: Layer<IdempotentOptions>[] = [];
  const unread: Layer<unknown>[] = [];
  for (const one of interceptors) {
    if (isSubclass(one)) unread.push({ what: '@UseInterceptors', place, options: one });
    if (one instanceof RetryInterceptor)
      retry.push({ what: 'new RetryInterceptor', place, options: one.options });
    const deadLetters = one === DeadLetterInterceptor ? new DeadLetterInterceptor() : one;
    if (deadLetters instanceof DeadLetterInterceptor)
      deadLetter.push({ what: 'new DeadLetterInterceptor', place, options: asking(deadLetters.options) });
    const once = one === IdempotencyInterceptor ? new IdempotencyInterceptor() : one;
    if (once instanceof IdempotencyInterceptor)
      idempotency.push({ what: 'new IdempotencyInterceptor', place, options: once.options });
  }
  return { retry, deadLetter, idempotency, unread };
}

/** A class whose constructor says what the policy is, named instead of called. */
function isSubclass(one: unknown): boolean {
  if (typeof one !== 'function') return false;
  const ours = [RetryInterceptor, DeadLetterInterceptor, IdempotencyInterceptor];
  return ours.some((base) => one.prototype instanceof base);
}

export function joinLayers(...all: readonly PolicyLayers[]): PolicyLayers {
  return {
    retry: all.flatMap(({ retry }) => retry),
    deadLetter: all.flatMap(({ deadLetter }) => deadLetter),
    idempotency: all.flatMap(({ idempotency }) => idempotency),
    unread: all.flatMap(({ unread }) => unread),
  };
}

export function checkLayers({ retry, deadLetter, idempotency, unread }: PolicyLayers): ConfigProblem[] {
  return [
    ...retry.flatMap((layer) => problemsOf(layer, checkRetry)),
    ...deadLetter.flatMap((layer) => problemsOf(layer, checkDeadLetter)),
    ...idempotency.flatMap((layer) => problemsOf(layer, checkIdempotent)),
    ...unread.map(({ what, place, options }) => ({
      name: `${what}(${(options as Type).name}) of ${place}`,
      expected:
        'an instance, made with `new`: what it says is read when handlers are bound, and Nest makes one later',
      given: 'the class',
    })),
  ];
}

/** Those that nothing is wrong with, as options: what is wrong is told once. */
export function soundOptions({ retry, deadLetter, idempotency }: PolicyLayers): BoundPolicyOptions {
  return {
    retry: soundOnes(retry, checkRetry),
    deadLetter: soundOnes(deadLetter, checkDeadLetter),
    idempotency: soundOnes(idempotency, checkIdempotent),
  };
}

function soundOnes<Options>(
  layers: readonly Layer<Options>[],
  check: (given: unknown, path: string) => ConfigProblem[],
): Options[] {
  return layers.map(({ options }) => options).filter((options) => check(options, '').length === 0);
}

function problemsOf(
  { what, place, options }: Layer<unknown>,
  check: (given: unknown, path: string) => ConfigProblem[],
): ConfigProblem[] {
  return check(options, '').map(({ name, ...problem }) => ({
    name: name === '' ? `${what}() of ${place}` : `${what}({ ${name.slice(1)} }) of ${place}`,
    ...problem,
  }));
}

/** Who writes it on a handler of requests wants their letters. What is no object stays as it is, to be refused. */
function asking(options: DeadLetterOptions): DeadLetterOptions {
  const isObject = typeof options === 'object' && options !== null && !Array.isArray(options);
  return isObject ? { requests: true, ...options } : options;
}
