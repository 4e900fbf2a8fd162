import type { MessageHandler } from '@nestjs/microservices';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { Handler } from '../../core/consume/handler.js';
import type { HandlerAttempt } from '../../core/consume/handler-attempt.js';
import { resolveDeadLetter } from '../../core/dead-letter/dead-letter-options.js';
import type { IdempotencyStore } from '../../core/idempotency/idempotency-store.js';
import { resolveIdempotency, type IdempotencyPolicy } from '../../core/idempotency/idempotency-options.js';
import { patternFromRegExp, patternFromString, type Pattern } from '../../core/message/pattern.js';
import { resolveRetry } from '../../core/retry/retry-options.js';
import { checkConsume } from '../decorators/consume.decorator.js';
import type { DecoratedMethod, NestBinding } from './handler-explorer.js';
import type { StorkContext } from '../context/stork.context.js';
import type { IdempotentOptions } from '../decorators/idempotent.decorator.js';
import {
  checkLayers,
  soundOptions,
  type BasePolicyOptions,
  type BoundPolicyOptions,
} from '../decorators/policy-metadata.js';
import type { TransportRegistry } from '../bootstrap/transport-registry.js';

/** A controller's method with all its patterns. */
export interface BoundMethod {
  readonly method: DecoratedMethod;
  readonly handler: MessageHandler;
  readonly isEvent: boolean;
  readonly patterns: readonly Pattern[];
}

/** Joins the patterns of one method: Nest binds each by itself. Methods of foreign transports are left out. */
export function groupByMethod(
  joined: readonly { readonly method: DecoratedMethod; readonly binding: NestBinding }[],
  normalize: (pattern: unknown) => string,
): BoundMethod[] {
  const methods = new Map<DecoratedMethod, BoundMethod & { patterns: Pattern[] }>();
  for (const { method, binding } of joined) {
    if (method.isForeign) continue;
    const { handler, isEvent } = binding;
    const bound = methods.get(method) ?? { method, handler, isEvent, patterns: [] };
    methods.set(method, bound);
    bound.patterns.push(toPattern(binding.pattern, normalize));
  }
  return [...methods.values()];
}

function toPattern(pattern: unknown, normalize: (pattern: unknown) => string): Pattern {
  // Nest's own normalising would make `{}` of it.
  if (pattern instanceof RegExp) return patternFromRegExp(pattern);
  if (typeof pattern === 'string') return patternFromString(pattern);
  return { text: normalize(pattern), kind: 'exact' };
}

/** What is wrong with the handlers as a whole. */
export function checkMethods(methods: readonly BoundMethod[], registry: TransportRegistry): ConfigProblem[] {
  return [
    ...methods.flatMap(({ method }) => problemsOfConsume(method)),
    ...problemsOfPolicies(methods),
    ...unknownNames(methods, registry),
    ...doubleIds(methods),
    ...doubleMessagePatterns(methods, registry),
  ];
}

/** The methods that one transport serves. */
export function methodsOn(
  name: string,
  methods: readonly BoundMethod[],
  registry: TransportRegistry,
): BoundMethod[] {
  const which = registry.handlersOn(name);
  if (which === 'none') return [];
  return methods.filter(({ method: { transports } }) =>
    transports === undefined ? which === 'all' : transports.includes(name),
  );
}

/** What the handlers of one transport share. */
export interface HandlerSurroundings {
  /** What the transport and its module say of policies. */
  readonly base: BasePolicyOptions;
  /** What interceptors of the whole application say: stronger than that. */
  readonly global: BoundPolicyOptions;
  /** Asked for only where a handler is idempotent. */
  readonly store: () => IdempotencyStore;
  readonly newContext: (run: HandlerAttempt) => StorkContext;
}

export function toHandler(
  { method, isEvent, patterns }: BoundMethod,
  surroundings: HandlerSurroundings,
  run: Handler['run'],
): Handler {
  const own = soundOptions(method.policies);
  const { base, global } = surroundings;
  // What is wrong is told once, by its name, and not by all that follows from it.
  const consume = problemsOfConsume(method).length > 0 ? undefined : method.consume;
  const retry = resolveRetry(...base.retry, ...global.retry, ...own.retry);
  const handler: Handler = {
    id: method.id,
    kind: isEvent ? 'event' : 'message',
    patterns,
    run,
    // A message that its source does not have any more has no way back.
    retry: consume?.delivery === 'at-most-once' ? { ...retry, redeliverDelaysMs: [] } : retry,
    deadLetter: resolveDeadLetter(...base.deadLetter, ...global.deadLetter, ...own.deadLetter),
  };
  const idempotency = idempotencyOf([...global.idempotency, ...own.idempotency], surroundings);
  return {
    ...handler,
    ...(consume === undefined ? {} : { consume }),
    ...(idempotency === undefined ? {} : { idempotency }),
  };
}

function idempotencyOf(
  said: readonly IdempotentOptions[],
  { base, store, newContext }: HandlerSurroundings,
): IdempotencyPolicy | undefined {
  if (said.length === 0) return undefined;
  const key = said.findLast((options) => options.key !== undefined)?.key;
  const keyOf = key === undefined ? undefined : (run: HandlerAttempt) => key(run.value, newContext(run));
  return resolveIdempotency({ store: store(), keyOf }, ...base.idempotency, ...said);
}

/** Those of a class are told once, not for each of its methods. */
function problemsOfPolicies(methods: readonly BoundMethod[]): ConfigProblem[] {
  const found = methods.flatMap(({ method }) => checkLayers(method.policies));
  return [...new Map(found.map((problem) => [`${problem.name} ${problem.given}`, problem])).values()];
}

function problemsOfConsume({ consume, place }: DecoratedMethod): ConfigProblem[] {
  return consume === undefined ? [] : checkConsume(consume, place);
}

function unknownNames(methods: readonly BoundMethod[], registry: TransportRegistry): ConfigProblem[] {
  return methods.flatMap(({ method }) =>
    (method.transports ?? [])
      .filter((name) => !registry.names.includes(name))
      .map((name) => ({
        name: `via() of ${method.place}`,
        expected: `one of the transports ${registry.names.join(', ')}`,
        given: JSON.stringify(name),
      })),
  );
}

function doubleIds(methods: readonly BoundMethod[]): ConfigProblem[] {
  const seen = new Map<string, BoundMethod>();
  return methods.flatMap((bound) => {
    const other = seen.get(bound.method.id);
    seen.set(bound.method.id, bound);
    if (other === undefined) return [];
    return {
      name: `handler id of ${bound.method.place}`,
      expected: 'an id of its own; @Consume({ id }) sets one',
      given:
        `${JSON.stringify(bound.method.id)}, which ${other.method.place} has too` +
        (other.method.place === bound.method.place ? ': is the controller registered twice?' : ''),
    };
  });
}

/** A request has one answer, so one handler; Nest would take the last one and say nothing. */
function doubleMessagePatterns(
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
          seen.set(text, method.place);
          if (other === undefined) return [];
          return {
            name: `@MessagePattern(${JSON.stringify(text)}) of ${method.place}`,
            expected: `one message handler for a pattern on the transport ${JSON.stringify(name)}`,
            given: `${other} answers it too`,
          };
        }),
      );
  });
}
