import type { Capabilities, SubscribedPattern } from '../port/driver.js';
import type { ConfigProblem } from '../runtime/errors.js';
import { targetKind } from '../dead-letter/dead-letter-options.js';
import type { Handler } from './handler.js';
import { matches, type Pattern } from '../message/pattern.js';

export const defaultSourceSettings = { order: 'key', delivery: 'at-least-once' } as const;

/**
 * The patterns of all handlers, one entry per pattern and settings. A pattern with several settings is a
 * conflict, which `findConflicts` reports.
 */
export function subscribedPatterns(handlers: readonly Handler[]): SubscribedPattern[] {
  const patterns = new Map<string, SubscribedPattern & { handlerNames: string[] }>();
  for (const { id, patterns: own, consume } of handlers) {
    const { order = defaultSourceSettings.order, delivery = defaultSourceSettings.delivery } = consume ?? {};
    for (const pattern of own) {
      const name = JSON.stringify([pattern.text, order, delivery]);
      const entry = patterns.get(name) ?? { ...pattern, order, delivery, handlerNames: [] };
      patterns.set(name, entry);
      entry.handlerNames.push(id);
    }
  }
  return [...patterns.values()];
}

/** Under `manual` the handler settles the message, so only one event handler may receive it. */
export function validateSingleManual(handlers: readonly Handler[]): ConfigProblem[] {
  const manual = handlers.filter(({ kind, consume }) => kind === 'event' && consume?.delivery === 'manual');
  return manual.flatMap((handler, i) => {
    const other = manual
      .slice(0, i)
      .find(({ patterns }) => findOverlap(patterns, handler.patterns) !== undefined);
    if (other === undefined) return [];
    return {
      name: `@Consume({ delivery }) of ${handler.id}`,
      expected: `a single handler for an event where delivery is 'manual'`,
      given: `${other.id} listens to ${findOverlap(other.patterns, handler.patterns)} too`,
    };
  });
}

/**
 * Under `manual` the handler may settle the message after it has returned, so its return does not mean
 * that the work is complete.
 */
export function validateIdempotentDelivery(handlers: readonly Handler[]): ConfigProblem[] {
  return handlers
    .filter(({ idempotency, consume }) => idempotency !== undefined && consume?.delivery === 'manual')
    .map(({ id }) => ({
      name: `@Idempotent() of ${id}`,
      expected: `delivery 'at-least-once' or 'at-most-once': the work must be complete when the handler returns`,
      given: `@Consume({ delivery: 'manual' })`,
    }));
}

/** A pattern that both lists match. Two wildcard patterns are compared as text only. */
function findOverlap(some: readonly Pattern[], others: readonly Pattern[]): string | undefined {
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

/** A handler's `concurrency` above that of its transport would have no effect. */
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

/**
 * If a handler names only a dead letter topic on a transport of queues, or the reverse, the name would be
 * ignored in favour of the default.
 */
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
      expected: `{ ${kind} }, in addition or instead: dead letters of the transport ${JSON.stringify(transport)} go to a ${kind}; or via() another transport`,
      given: JSON.stringify(given),
    };
  });
}
