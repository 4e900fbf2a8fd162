import type { DeadLetterOptions } from './dead-letter-options.js';
import type { Capabilities } from './driver.js';
import type { Problem } from './errors.js';
import type { Handler } from './handler-table.js';
import { legalTopic } from './log-records.js';
import { printable } from './text.js';

/** Where a handler's letters go on a transport; undefined: to the source's companion. */
export function letterTarget(
  policy: Pick<DeadLetterOptions, 'queue' | 'topic'> | undefined,
  capabilities: Pick<Capabilities, 'destinations'>,
): string | undefined {
  return policy?.[targetKind(capabilities)];
}

function targetKind({ destinations }: Pick<Capabilities, 'destinations'>): 'queue' | 'topic' {
  return destinations.has('topic') ? 'topic' : 'queue';
}

/** Whoever names a topic for their letters does not look for them in a queue. */
export function refuseForeignTargets(
  handlers: readonly Handler[],
  capabilities: Pick<Capabilities, 'destinations'>,
  transport: string,
): Problem[] {
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

export function refuseIllegalTargets(targets: readonly string[], transport: string): Problem[] {
  return targets
    .filter((target) => !legalTopic.test(target))
    .map((target) => ({
      name: `@DeadLetter({ topic }) on the transport ${JSON.stringify(transport)}`,
      expected: 'a topic name: 1 to 249 letters, digits, _, . and -',
      given: printable(target),
    }));
}

/** A letter in its own source would be handled, and fail, without end. */
export function refuseTargetsRead(
  targets: readonly string[],
  isRead: (name: string) => boolean,
  transport: string,
): Problem[] {
  return targets
    .filter((target) => isRead(target))
    .map((target) => ({
      name: `@DeadLetter() on the transport ${JSON.stringify(transport)}`,
      expected: 'a queue or topic that the transport does not itself consume',
      given: JSON.stringify(target),
    }));
}
