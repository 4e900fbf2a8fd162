import type { Capabilities, SubscribedPattern } from '../port/driver.js';
import type { ConfigProblem } from '../runtime/errors.js';
import { targetKind } from '../dead-letter/dead-letter-options.js';
import type { Handler } from './handler.js';
import { matches, type Pattern } from '../message/pattern.js';

export const defaultSourceSettings = { order: 'key', delivery: 'at-least-once' } as const;

/**
 * Each pattern once for each way in which handlers want it; where that is more than one, `findConflicts` says
 * so.
 */
export function subscribedPatterns(handlers: readonly Handler[]): SubscribedPattern[] {
  const patterns = new Map<string, SubscribedPattern & { handlerNames: string[] }>();
  for (const { id, patterns: wanted, consume } of handlers) {
    const { order = defaultSourceSettings.order, delivery = defaultSourceSettings.delivery } = consume ?? {};
    for (const pattern of wanted) {
      const name = JSON.stringify([pattern.text, order, delivery]);
      const known = patterns.get(name) ?? { ...pattern, order, delivery, handlerNames: [] };
      patterns.set(name, known);
      known.handlerNames.push(id);
    }
  }
  return [...patterns.values()];
}

/** With `manual` the handler settles the message, so there can be one. */
export function validateSingleManual(handlers: readonly Handler[]): ConfigProblem[] {
  const manual = handlers.filter(({ kind, consume }) => kind === 'event' && consume?.delivery === 'manual');
  return manual.flatMap((handler, i) => {
    const other = manual.slice(0, i).find(({ patterns }) => shared(patterns, handler.patterns) !== undefined);
    if (other === undefined) return [];
    return {
      name: `@Consume({ delivery }) of ${handler.id}`,
      expected: `one handler for an event where delivery is 'manual'`,
      given: `${other.id} listens to ${shared(other.patterns, handler.patterns)} too`,
    };
  });
}

/**
 * With `manual` the handler may settle the message long after its run, so that the run's end says nothing of
 * the work.
 */
export function validateIdempotentDelivery(handlers: readonly Handler[]): ConfigProblem[] {
  return handlers
    .filter(({ idempotency, consume }) => idempotency !== undefined && consume?.delivery === 'manual')
    .map(({ id }) => ({
      name: `@Idempotent() of ${id}`,
      expected: `delivery 'at-least-once' or 'at-most-once': the run's end must say whether the work is done`,
      given: `@Consume({ delivery: 'manual' })`,
    }));
}

/** A text that patterns of both take. Two wildcards are compared by their text alone. */
function shared(some: readonly Pattern[], others: readonly Pattern[]): string | undefined {
  for (const one of some) {
    for (const other of others) {
      if (overlaps(one, other) || overlaps(other, one)) {
        return one.kind === 'exact' ? one.text : other.text;
      }
    }
  }
  return undefined;
}

export function overlaps(pattern: Pattern, other: Pattern): boolean {
  return pattern.text === other.text || (other.kind !== 'regexp' && matches(pattern, other.text));
}

/** A handler bounded beyond its transport would never reach its bound. */
export function validateConcurrency(
  handlers: readonly Handler[],
  concurrency: number,
  transport: string,
): ConfigProblem[] {
  return handlers.flatMap(({ id, consume }) => {
    const given = consume?.concurrency;
    if (given === undefined || given <= concurrency) return [];
    return {
      name: `@Consume({ concurrency }) of ${id}`,
      expected: `at most ${concurrency}, the concurrency of the transport ${JSON.stringify(transport)}`,
      given: String(given),
    };
  });
}

/** Whoever names a topic for their letters does not look for them in a queue. */
export function validateTargetKinds(
  handlers: readonly Handler[],
  capabilities: Pick<Capabilities, 'destinations'>,
  transport: string,
): ConfigProblem[] {
  const kind = targetKind(capabilities);
  const other = kind === 'queue' ? 'topic' : 'queue';
  return handlers.flatMap(({ id, deadLetter }) => {
    const given = deadLetter?.[other];
    if (given === undefined || deadLetter?.[kind] !== undefined) return [];
    return {
      name: `@DeadLetter({ ${other} }) of ${id}`,
      expected: `{ ${kind} }, beside it or instead: letters of the transport ${JSON.stringify(transport)} go to a ${kind}; or via() another transport`,
      given: JSON.stringify(given),
    };
  });
}
