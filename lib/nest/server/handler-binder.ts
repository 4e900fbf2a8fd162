import type { MessageHandler } from '@nestjs/microservices';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { Handler } from '../../core/consume/handler.js';
import type { HandlerAttempt } from '../../core/consume/handler-attempt.js';
import { resolveDeadLetter } from '../../core/dead-letter/dead-letter-options.js';
import type { IdempotencyStore } from '../../core/idempotency/idempotency-store.js';
import { resolveIdempotency, type IdempotencyPolicy } from '../../core/idempotency/idempotency-options.js';
import { patternFromRegExp, patternFromString, type Pattern } from '../../core/message/pattern.js';
import { resolveRetry } from '../../core/retry/retry-options.js';
import { validateConsumeOptions } from '../decorators/consume.decorator.js';
import type { DecoratedMethod } from './decorated-method.js';
import type { NestBinding } from './handler-explorer.js';
import { duplicateIds, invalidPrefixes } from './handler-ids.js';
import type { StorkContext } from '../context/stork.context.js';
import type { IdempotentOptions } from '../decorators/idempotent.decorator.js';
import {
  validateLayers,
  validOptions,
  type BasePolicyOptions,
  type BoundPolicyOptions,
} from '../decorators/policy-metadata.js';
import { headerOf } from '../interceptors/correlation.interceptor.js';
import type { TransportRegistry } from '../bootstrap/transport-registry.js';
import { findPatternProblem } from '../validation/validate-pattern.js';

/** A controller method with all its patterns. */
export interface BoundMethod {
  readonly method: DecoratedMethod;
  readonly handler: MessageHandler;
  readonly isEvent: boolean;
  readonly patterns: readonly Pattern[];
  readonly patternProblems: readonly ConfigProblem[];
}

/**
 * Groups the patterns of each method: Nest binds every pattern separately. Skips methods of other
 * libraries' transports.
 */
export function groupByMethod(
  joined: readonly { readonly method: DecoratedMethod; readonly binding: NestBinding }[],
  normalize: (pattern: unknown) => string,
): BoundMethod[] {
  const methods = new Map<
    DecoratedMethod,
    BoundMethod & { patterns: Pattern[]; patternProblems: ConfigProblem[] }
  >();
  for (const { method, binding } of joined) {
    if (method.isForeign) continue;
    const { handler, isEvent, pattern } = binding;
    const bound = methods.get(method) ?? { method, handler, isEvent, patterns: [], patternProblems: [] };
    methods.set(method, bound);
    // A RegExp is a pattern of a handler, but not of a message.
    const problem =
      pattern instanceof RegExp ? undefined : findPatternProblem(pattern, `${method.name}: pattern`);
    if (problem === undefined) bound.patterns.push(toPattern(pattern, normalize));
    else bound.patternProblems.push(problem);
  }
  return [...methods.values()];
}

function toPattern(pattern: unknown, normalize: (pattern: unknown) => string): Pattern {
  // Nest's `normalizePattern` turns a RegExp into `{}`.
  if (pattern instanceof RegExp) return patternFromRegExp(pattern);
  if (typeof pattern === 'string') return patternFromString(pattern);
  return { text: normalize(pattern), kind: 'exact' };
}

/** Problems of the decorators and conflicts between handlers. */
export function validateMethods(
  methods: readonly BoundMethod[],
  registry: TransportRegistry,
): ConfigProblem[] {
  return [
    ...methods.flatMap(({ patternProblems }) => patternProblems),
    ...methods.flatMap(({ method }) => validateConsume(method)),
    ...validatePolicies(methods),
    ...unknownTransports(methods, registry),
    ...invalidPrefixes(methods.map(({ method }) => method)),
    ...duplicateIds(methods.map(({ method }) => method)),
    ...duplicateMessagePatterns(methods, registry),
  ];
}

/** The methods that one transport serves, by `via()` and the transport's `handlers` option. */
export function methodsOn(
  name: string,
  methods: readonly BoundMethod[],
  registry: TransportRegistry,
): BoundMethod[] {
  const served = registry.handlersOn(name);
  if (served === 'none') return [];
  return methods.filter(
    ({ patterns, method: { transports } }) =>
      patterns.length > 0 && (transports === undefined ? served === 'all' : transports.includes(name)),
  );
}

/** Shared by all handlers of one transport. */
export interface HandlerDefaults {
  /** Policies of the module and the transport. */
  readonly base: BasePolicyOptions;
  /** Policies of the application's global interceptors; they override `base`. */
  readonly global: BoundPolicyOptions;
  /** Lazy: without a configured store the call creates one in memory and logs a warning. */
  readonly store: () => IdempotencyStore;
  readonly newContext: (attempt: HandlerAttempt) => StorkContext;
}

/**
 * The headers in which the messages of a handler may carry a correlation id, that of the innermost
 * interceptor first; undefined without a `CorrelationInterceptor`.
 */
export function correlationHeadersOf(
  { method }: BoundMethod,
  global: BoundPolicyOptions,
): readonly string[] | undefined {
  const all = [...global.correlation, ...validOptions(method.policies).correlation];
  return all.length === 0 ? undefined : all.map(headerOf).toReversed();
}

export function toHandler(
  { method, isEvent, patterns }: BoundMethod,
  defaults: HandlerDefaults,
  run: Handler['run'],
): Handler {
  const own = validOptions(method.policies);
  const { base, global } = defaults;
  // Invalid options are reported by `validateMethods`; applying them would report the same mistake again.
  const consume = validateConsume(method).length > 0 ? undefined : method.consume;
  const retry = resolveRetry(...base.retry, ...global.retry, ...own.retry);
  const handler: Handler = {
    id: method.id,
    kind: isEvent ? 'event' : 'message',
    patterns,
    run,
    // At-most-once acknowledges the message before the handler starts, so the broker cannot redeliver it.
    retry: consume?.delivery === 'at-most-once' ? { ...retry, redeliverDelaysMs: [] } : retry,
    deadLetter: resolveDeadLetter(...base.deadLetter, ...global.deadLetter, ...own.deadLetter),
  };
  const idempotency = idempotencyOf([...global.idempotency, ...own.idempotency], defaults);
  return {
    ...handler,
    ...(consume === undefined ? {} : { consume }),
    ...(idempotency === undefined ? {} : { idempotency }),
  };
}

function idempotencyOf(
  layers: readonly IdempotentOptions[],
  { base, store, newContext }: HandlerDefaults,
): IdempotencyPolicy | undefined {
  if (layers.length === 0) return undefined;
  const key = layers.findLast((options) => options.key !== undefined)?.key;
  const keyOf =
    key === undefined ? undefined : (attempt: HandlerAttempt) => key(attempt.value, newContext(attempt));
  return resolveIdempotency({ store: store(), keyOf }, ...base.idempotency, ...layers);
}

/** Reports a problem of a class decorator once, not for each of its methods. */
function validatePolicies(methods: readonly BoundMethod[]): ConfigProblem[] {
  const found = methods.flatMap(({ method }) => validateLayers(method.policies));
  return [...new Map(found.map((problem) => [`${problem.name} ${problem.given}`, problem])).values()];
}

function validateConsume({ consume, name }: DecoratedMethod): ConfigProblem[] {
  return consume === undefined ? [] : validateConsumeOptions(consume, name);
}

function unknownTransports(methods: readonly BoundMethod[], registry: TransportRegistry): ConfigProblem[] {
  return methods.flatMap(({ method }) =>
    (method.transports ?? [])
      .filter((name) => !registry.names.includes(name))
      .map((name) => ({
        name: `via() of ${method.name}`,
        expected: `one of the transports ${registry.names.join(', ')}`,
        given: JSON.stringify(name),
      })),
  );
}

/**
 * A request gets one reply, so a pattern may have one message handler. Nest silently keeps the last one.
 */
function duplicateMessagePatterns(
  methods: readonly BoundMethod[],
  registry: TransportRegistry,
): ConfigProblem[] {
  return registry.names.flatMap((name) => {
    const seen = new Map<string, string>();
    return methodsOn(name, methods, registry)
      .filter(({ isEvent }) => !isEvent)
      .flatMap(({ method, patterns }) =>
        patterns.flatMap(({ text }) => {
          const other = seen.get(text);
          seen.set(text, method.name);
          if (other === undefined) return [];
          return {
            name: `@MessagePattern(${JSON.stringify(text)}) of ${method.name}`,
            expected: `one message handler for a pattern on the transport ${JSON.stringify(name)}`,
            given: `${other} handles it too`,
          };
        }),
      );
  });
}
