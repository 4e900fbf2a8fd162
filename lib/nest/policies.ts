import { INTERCEPTORS_METADATA } from '@nestjs/common/constants.js';
import type { DeadLetterOptions } from '../core/dead-letter-options.js';
import type { Problem } from '../core/errors.js';
import type { RetryOptions } from '../core/retry-options.js';
import { checkDeadLetter, deadLetterMetadataKey } from './dead-letter.decorator.js';
import { DeadLetterInterceptor, RetryInterceptor } from './interceptors.js';
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
}

/** Checked, from the weakest word to the strongest. */
export interface PolicyOptions {
  readonly retry: readonly (RetryOptions | undefined)[];
  readonly deadLetter: readonly (DeadLetterOptions | undefined)[];
}

/** What a class or a method says. An interceptor bound by hand is the weaker word: it may stand for many. */
export function layersOf(target: object, place: string): PolicyLayers {
  const bound = Reflect.getMetadata(INTERCEPTORS_METADATA, target) as readonly unknown[] | undefined;
  const byHand = layersOfInterceptors(bound ?? [], place);
  const retry = Reflect.getMetadata(retryMetadataKey, target) as RetryOptions | undefined;
  const deadLetter = Reflect.getMetadata(deadLetterMetadataKey, target) as DeadLetterOptions | undefined;
  return {
    retry: [...byHand.retry, ...(retry === undefined ? [] : [{ what: '@Retry', place, options: retry }])],
    deadLetter: [
      ...byHand.deadLetter,
      ...(deadLetter === undefined ? [] : [{ what: '@DeadLetter', place, options: asking(deadLetter) }]),
    ],
  };
}

export function layersOfInterceptors(interceptors: readonly unknown[], place: string): PolicyLayers {
  const retry: Layer<RetryOptions>[] = [];
  const deadLetter: Layer<DeadLetterOptions>[] = [];
  for (const one of interceptors) {
    if (one instanceof RetryInterceptor)
      retry.push({ what: 'new RetryInterceptor', place, options: one.options });
    const letters = one === DeadLetterInterceptor ? new DeadLetterInterceptor() : one;
    if (letters instanceof DeadLetterInterceptor)
      deadLetter.push({ what: 'new DeadLetterInterceptor', place, options: asking(letters.options) });
  }
  return { retry, deadLetter };
}

export function joinLayers(...all: readonly PolicyLayers[]): PolicyLayers {
  return {
    retry: all.flatMap(({ retry }) => retry),
    deadLetter: all.flatMap(({ deadLetter }) => deadLetter),
  };
}

export function checkLayers({ retry, deadLetter }: PolicyLayers): Problem[] {
  return [
    ...retry.flatMap((layer) => problemsOf(layer, checkRetry)),
    ...deadLetter.flatMap((layer) => problemsOf(layer, checkDeadLetter)),
  ];
}

/** Those that nothing is wrong with, as options: what is wrong is told once. */
export function soundOptions({ retry, deadLetter }: PolicyLayers): PolicyOptions {
  return {
    retry: retry.filter(({ options }) => checkRetry(options, '').length === 0).map(({ options }) => options),
    deadLetter: deadLetter
      .filter(({ options }) => checkDeadLetter(options, '').length === 0)
      .map(({ options }) => options),
  };
}

function problemsOf(
  { what, place, options }: Layer<unknown>,
  check: (given: unknown, path: string) => Problem[],
): Problem[] {
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
