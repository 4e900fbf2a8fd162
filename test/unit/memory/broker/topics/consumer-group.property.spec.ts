import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Membership } from '../../../../../lib/memory/broker/topics/consumer-group.js';
import { newBroker, settle } from '../../harness.js';
import { newMember, type TestMember } from './test-member.js';

const topics = { a: 5, b: 3, c: 1 } as const;

const step = fc.oneof(
  fc.record({
    kind: fc.constant('join' as const),
    subscribed: fc.subarray(['a', 'b', 'c'], { minLength: 1 }),
    awaited: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('leave' as const), pick: fc.nat(), awaited: fc.boolean() }),
);

/** Owners of each partition of `topic` by the last assignment of each member. */
function ownersOf(topic: keyof typeof topics, members: readonly TestMember[]): number[] {
  return Array.from(
    { length: topics[topic] },
    (_, partition) => members.filter((member) => member.owned().includes(`${topic}/${partition}`)).length,
  );
}

function check(members: readonly TestMember[]): void {
  for (const topic of ['a', 'b', 'c'] as const) {
    const subscribers = members.filter((member) => member.topics().includes(topic));
    const everyOneOnce = Array(topics[topic]).fill(subscribers.length === 0 ? 0 : 1);
    expect(ownersOf(topic, members)).toEqual(everyOneOnce);
    expect(ownersOf(topic, subscribers)).toEqual(everyOneOnce);
    const sizes = subscribers.map((member) => member.owned().filter((name) => name.startsWith(topic)).length);
    if (sizes.length > 0) expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  }
}

it('assigns every partition to exactly one subscriber, whichever members join and leave', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      const { broker } = newBroker();
      for (const [name, partitions] of Object.entries(topics)) broker.createTopic(name, { partitions });
      const group = broker.group('g');
      const present: { member: TestMember; membership: Promise<Membership> }[] = [];
      for (const next of steps) {
        let done: Promise<unknown> | undefined;
        if (next.kind === 'join') {
          const member = newMember(...next.subscribed);
          const membership = group.join(member);
          present.push({ member, membership });
          done = membership;
        } else if (present.length > 0) {
          const [leaver] = present.splice(next.pick % present.length, 1);
          done = leaver!.membership.then((membership) => membership.leave());
        }
        if (next.awaited) {
          await done;
          await settle();
          check(present.map(({ member }) => member));
        }
      }
      await settle();
      check(present.map(({ member }) => member));
    }),
    { numRuns: 300 },
  );
});
