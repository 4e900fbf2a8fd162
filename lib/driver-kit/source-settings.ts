import { defaultSourceSettings, overlaps } from '../core/consume/consume-options.js';
import { matches } from '../core/message/pattern.js';
import type { SubscribedPattern } from '../core/port/driver.js';
import type { ConfigProblem } from '../core/runtime/errors.js';

/** Order and delivery mode of one source's messages. */
export type SourceSettings = Pick<SubscribedPattern, 'order' | 'delivery'>;

/**
 * The settings of a source whose patterns do not conflict; see `findConflicts`.
 *
 * @param source the source's name, where each pattern is a separate source
 */
export function sourceSettingsOf(patterns: readonly SubscribedPattern[], source?: string): SourceSettings {
  const found = source === undefined ? patterns[0] : patterns.find((pattern) => matches(pattern, source));
  return found ?? defaultSourceSettings;
}

/** Differences between patterns that share one source: a source has one order and one delivery mode. */
export function findConflicts(patterns: readonly SubscribedPattern[], source: string): ConfigProblem[] {
  const [first] = patterns;
  return (['order', 'delivery'] as const).flatMap((name) => {
    const other = patterns.find((pattern) => pattern[name] !== first![name]);
    if (other === undefined) return [];
    return {
      name: `@Consume({ ${name} }) of ${other.handlerNames[0]}`,
      expected: `the same as of ${first!.handlerNames[0]}, which consumes ${source} too: '${first![name]}'`,
      given: `'${other[name]}'`,
    };
  });
}

/**
 * Like `findConflicts`, where each pattern is a separate source: patterns that match the same source must
 * agree.
 */
export function findConflictsByPattern(patterns: readonly SubscribedPattern[]): ConfigProblem[] {
  const found = patterns.flatMap((one) => {
    const sharing = patterns.filter((pattern) => overlaps(pattern, one));
    return findConflicts(sharing, one.text);
  });
  return [...new Map(found.map((problem) => [`${problem.name} ${problem.expected}`, problem])).values()];
}

/** A queue has no partitions, so `order: 'partition'` is invalid. */
export function validateNoPartitionOrder(
  patterns: readonly SubscribedPattern[],
  transport: string,
): ConfigProblem[] {
  const handlers = patterns.flatMap(({ order, handlerNames }) => (order === 'partition' ? handlerNames : []));
  return [...new Set(handlers)].map((handler) => ({
    name: `@Consume({ order }) of ${handler}`,
    expected: `'key' or 'none' on the transport ${JSON.stringify(transport)}, whose queue has no partitions`,
    given: `'partition'`,
  }));
}

/** A dead letter in a consumed queue or topic would be handled again and fail again, forever. */
export function validateTargetsNotConsumed(
  targets: readonly string[],
  isConsumed: (name: string) => boolean,
  transport: string,
): ConfigProblem[] {
  return targets
    .filter((target) => isConsumed(target))
    .map((target) => ({
      name: `@DeadLetter() on the transport ${JSON.stringify(transport)}`,
      expected: 'a queue or topic that the transport does not itself consume',
      given: JSON.stringify(target),
    }));
}
