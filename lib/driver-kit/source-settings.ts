import { defaultSourceSettings, overlaps } from '../core/consume/consume-options.js';
import { matches } from '../core/message/pattern.js';
import type { SubscribedPattern } from '../core/port/driver.js';
import type { ConfigProblem } from '../core/runtime/errors.js';

/** How the messages of one source are handed over. */
export type SourceSettings = Pick<SubscribedPattern, 'order' | 'delivery'>;

/**
 * How a source is consumed that `findConflicts` has nothing to say about.
 *
 * @param source where each pattern is a source of its own: which one
 */
export function sourceSettingsOf(patterns: readonly SubscribedPattern[], source?: string): SourceSettings {
  const found = source === undefined ? patterns[0] : patterns.find((pattern) => matches(pattern, source));
  return found ?? defaultSourceSettings;
}

/** What is wrong where these patterns share one source: its messages are handed over in one way only. */
export function findConflicts(patterns: readonly SubscribedPattern[], source: string): ConfigProblem[] {
  const [first] = patterns;
  return (['order', 'delivery'] as const).flatMap((name) => {
    const other = patterns.find((pattern) => pattern[name] !== first![name]);
    if (other === undefined) return [];
    return {
      name: `@Consume({ ${name} }) of ${other.handlerNames[0]}`,
      expected: `the same as of ${first!.handlerNames[0]}, which reads ${source} too: '${first![name]}'`,
      given: `'${other[name]}'`,
    };
  });
}

/** The same where each pattern is a source of its own. */
export function findConflictsByPattern(patterns: readonly SubscribedPattern[]): ConfigProblem[] {
  const found = patterns.flatMap((one) => {
    const sharing = patterns.filter((pattern) => overlaps(pattern, one));
    return findConflicts(sharing, one.text);
  });
  return [...new Map(found.map((problem) => [`${problem.name} ${problem.expected}`, problem])).values()];
}

/** A queue has no partitions whose order could be kept. */
export function validateNoPartitionOrder(
  patterns: readonly SubscribedPattern[],
  transport: string,
): ConfigProblem[] {
  const handlers = patterns.flatMap(({ order, handlerNames: places }) => (order === 'partition' ? places : []));
  return [...new Set(handlers)].map((place) => ({
    name: `@Consume({ order }) of ${place}`,
    expected: `'key' or 'none' on the transport ${JSON.stringify(transport)}, whose queue has no partitions`,
    given: `'partition'`,
  }));
}

/** A letter in its own source would be handled, and fail, without end. */
export function validateTargetsNotConsumed(
  targets: readonly string[],
  isRead: (name: string) => boolean,
  transport: string,
): ConfigProblem[] {
  return targets
    .filter((target) => isRead(target))
    .map((target) => ({
      name: `@DeadLetter() on the transport ${JSON.stringify(transport)}`,
      expected: 'a queue or topic that the transport does not itself consume',
      given: JSON.stringify(target),
    }));
}
