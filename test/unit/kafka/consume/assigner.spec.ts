import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignOne, assignSticky } from '../../../../lib/kafka/consume/assigner.js';
import type { GroupMember, TopicPartition } from '../../../../lib/kafka/client/client.js';

type Assignment = ReadonlyMap<string, readonly TopicPartition[]>;
/** Number of partitions by topic. Other topics do not exist. */
type Topics = Readonly<Record<string, number>>;

const newcomer = (id: string, ...topics: readonly string[]): GroupMember => ({
  id,
  topics,
  ownedPartitions: [],
});

function assign(topics: Topics, members: readonly GroupMember[]): Assignment {
  return assignSticky(members, (topic) => upTo(topics[topic] ?? 0));
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** The same members as they join again: each owns what it was assigned. */
function rejoining(members: readonly GroupMember[], assignment: Assignment): GroupMember[] {
  return members.map((member) => ({ ...member, ownedPartitions: assignment.get(member.id)! }));
}

const nameOf = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`;

const namesOf = (at: readonly TopicPartition[]): string[] => at.map(nameOf);

function countOf(assignment: Assignment, id: string, topic?: string): number {
  return assignment.get(id)!.filter((at) => topic === undefined || at.topic === topic).length;
}

/** Number of partitions that another member owns now. Partitions that had no owner do not count. */
function movesBetween(before: Assignment, after: Assignment): number {
  const owners = ownersIn(after);
  return [...ownersIn(before)].filter(([name, id]) => owners.has(name) && owners.get(name) !== id).length;
}

function ownersIn(assignment: Assignment): Map<string, string> {
  return new Map([...assignment].flatMap(([id, at]) => at.map((one) => [nameOf(one), id] as const)));
}

function keptIn(members: readonly GroupMember[], assignment: Assignment): number {
  const owners = ownersIn(assignment);
  return members.flatMap(({ id, ownedPartitions }) =>
    [...new Set(namesOf(ownedPartitions))].filter((name) => owners.get(name) === id),
  ).length;
}

function spread(counts: readonly number[]): number {
  return Math.max(...counts) - Math.min(...counts);
}

/** `gone` does not exist. */
const topicNames = ['a', 'b', 'c', 'd', 'gone'];

/**
 * Arbitrary subscriptions and owned partitions: stale, claimed twice, of other topics, of missing
 * partitions.
 */
const groups = fc.record({
  topics: fc.record({ a: fc.nat(9), b: fc.nat(5), c: fc.nat(3), d: fc.nat(3) }),
  members: fc.uniqueArray(
    fc.record({
      id: fc.string({ minLength: 1, maxLength: 3 }),
      // Few kinds, so that some members have equal subscriptions.
      topics: fc.constantFrom<(readonly string[])[]>(
        ['a', 'b', 'c', 'd'],
        ['a', 'b', 'c', 'd'],
        ['a', 'gone'],
        ['b', 'a', 'b'],
        ['c', 'd', 'a'],
        [],
      ),
      ownedPartitions: fc.array(fc.record({ topic: fc.constantFrom(...topicNames), partition: fc.nat(10) }), {
        maxLength: 15,
      }),
    }),
    { selector: ({ id }) => id, minLength: 1, maxLength: 7 },
  ),
});

function classesOf(topics: Topics, members: readonly GroupMember[]): GroupMember[][] {
  const classes = new Map<string, GroupMember[]>();
  for (const member of members) {
    const subscription = [...new Set(member.topics)]
      .filter((topic) => (topics[topic] ?? 0) > 0)
      .toSorted()
      .join();
    classes.set(subscription, [...(classes.get(subscription) ?? []), member]);
  }
  return [...classes.values()];
}

/** Members that subscribe to every topic, with arbitrary previous owners. */
function equalGroups(sizes: { members: number; topics: number; partitions: number }) {
  return fc.integer({ min: 1, max: sizes.members }).chain((count) => {
    const owner = fc.option(fc.nat(count - 1), { nil: undefined, freq: 6 });
    const topic = fc.array(owner, { minLength: 1, maxLength: sizes.partitions });
    return fc.array(topic, { minLength: 1, maxLength: sizes.topics }).map((owners) => ({
      topics: Object.fromEntries(owners.map((partitions, t) => [`t${t}`, partitions.length])),
      members: upTo(count).map((m) => ({
        id: `m${m}`,
        topics: owners.map((_, t) => `t${t}`),
        ownedPartitions: owners.flatMap((partitions, t) =>
          partitions.flatMap((owner, partition) => (owner === m ? [{ topic: `t${t}`, partition }] : [])),
        ),
      })),
    }));
  });
}

/**
 * Highest number of partitions that a balanced assignment leaves with their owners, by exhaustive search.
 */
function mostRetainable(topics: Topics, members: readonly GroupMember[]): number {
  const held = new Map(
    members.flatMap(({ ownedPartitions }, m) => ownedPartitions.map((at) => [nameOf(at), m] as const)),
  );
  let best = new Map([[members.map(() => 0).join(), 0]]);
  for (const [topic, partitions] of Object.entries(topics)) {
    const extended = new Map<string, number>();
    for (const [counts, kept] of evenSpreads(
      members.length,
      upTo(partitions).map((p) => held.get(`${topic}/${p}`)),
    )) {
      for (const [totals, keptBefore] of best) {
        const sum = totals
          .split(',')
          .map((total, m) => Number(total) + Number(counts.split(',')[m]))
          .join();
        extended.set(sum, Math.max(extended.get(sum) ?? 0, keptBefore + kept));
      }
    }
    best = extended;
  }
  const balanced = [...best].filter(([totals]) => spread(totals.split(',').map(Number)) <= 1);
  return Math.max(...balanced.map(([, kept]) => kept));
}

/** Every even spread of one topic: partitions by member, and how many of them stay with their owner. */
function evenSpreads(members: number, owners: readonly (number | undefined)[]): Map<string, number> {
  const spreads = new Map<string, number>();
  const give = (partition: number, counts: readonly number[], kept: number): void => {
    if (partition < owners.length) {
      for (const m of upTo(members))
        give(partition + 1, counts.with(m, counts[m]! + 1), kept + Number(owners[partition] === m));
    } else if (spread(counts) <= 1)
      spreads.set(counts.join(), Math.max(spreads.get(counts.join()) ?? 0, kept));
  };
  give(
    0,
    upTo(members).map(() => 0),
    0,
  );
  return spreads;
}

describe('assignSticky', () => {
  it('assigns every partition of a subscribed topic once, to a subscriber, and lists every member', () => {
    fc.assert(
      fc.property(groups, ({ topics, members }) => {
        const assignment = assign(topics, members);
        expect(new Set(assignment.keys())).toEqual(new Set(members.map(({ id }) => id)));
        for (const { id, topics } of members) {
          for (const { topic } of assignment.get(id)!) expect(topics).toContain(topic);
        }
        const subscribed = Object.keys(topics).filter((topic) =>
          members.some((member) => member.topics.includes(topic)),
        );
        const expected = subscribed.flatMap((topic) =>
          upTo(topics[topic as keyof typeof topics]).map((p) => `${topic}/${p}`),
        );
        expect([...assignment.values()].flatMap(namesOf).toSorted()).toEqual(expected.toSorted());
      }),
      { numRuns: 1000 },
    );
  });

  it('spreads each topic evenly over its subscribers, and all topics over members with equal subscriptions', () => {
    fc.assert(
      fc.property(groups, ({ topics, members }) => {
        const assignment = assign(topics, members);
        for (const topic of Object.keys(topics)) {
          const counts = members
            .filter((member) => member.topics.includes(topic))
            .map(({ id }) => countOf(assignment, id, topic));
          if (counts.length > 0) expect(spread(counts), topic).toBeLessThanOrEqual(1);
        }
        for (const equals of classesOf(topics, members)) {
          expect(spread(equals.map(({ id }) => countOf(assignment, id)))).toBeLessThanOrEqual(1);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('moves nothing when all members join again with their assignment', () => {
    fc.assert(
      fc.property(groups, ({ topics, members }) => {
        const assignment = assign(topics, members);
        expect(assign(topics, rejoining(members, assignment))).toEqual(assignment);
      }),
      { numRuns: 1000 },
    );
  });

  it('moves as few partitions of one topic as an even spread allows', () => {
    fc.assert(
      fc.property(equalGroups({ members: 4, topics: 1, partitions: 6 }), ({ topics, members }) => {
        expect(keptIn(members, assign(topics, members))).toBe(mostRetainable(topics, members));
      }),
      { numRuns: 500 },
    );
  });

  it('moves at most one partition of several topics more than a balanced assignment has to', () => {
    fc.assert(
      fc.property(equalGroups({ members: 3, topics: 3, partitions: 4 }), ({ topics, members }) => {
        expect(keptIn(members, assign(topics, members))).toBeGreaterThanOrEqual(
          mostRetainable(topics, members) - 1,
        );
      }),
      { numRuns: 500 },
    );
  });

  it('prefers a transfer by which another member retains a partition', () => {
    const topics = { x: 4, y: 1, z: 1 };
    const owner = (id: string, ...names: readonly string[]): GroupMember => ({
      ...newcomer(id, 'x', 'y', 'z'),
      ownedPartitions: names.map((name) => ({ topic: name[0]!, partition: Number(name[1]) })),
    });
    const members = [owner('a', 'x0', 'x1', 'y0', 'z0'), owner('b'), owner('c', 'x2', 'x3')];
    expect(mostRetainable(topics, members)).toBe(4);
    expect(keptIn(members, assign(topics, members))).toBe(4);
  });

  it('does not depend on the order of members, topics or owned partitions', () => {
    const shuffled = groups.chain(({ topics, members }) =>
      fc
        .tuple(
          ...members.map((member) =>
            fc
              .tuple(reordered(member.topics), reordered(member.ownedPartitions))
              .map(([topics, ownedPartitions]): GroupMember => ({ id: member.id, topics, ownedPartitions })),
          ),
        )
        .chain((members) => reordered(members))
        .map((others) => ({ topics, members, others })),
    );
    fc.assert(
      fc.property(shuffled, ({ topics, members, others }) => {
        const descending = assignSticky(others, (topic) =>
          upTo(topics[topic as keyof typeof topics] ?? 0).toReversed(),
        );
        expect(descending).toEqual(assign(topics, members));
      }),
      { numRuns: 500 },
    );
  });

  it('assigns no member all first partitions, neither in a new group nor in one grown from one member', () => {
    const sizes = fc.record({
      count: fc.integer({ min: 2, max: 6 }),
      more: fc.nat(5),
      topics: fc.integer({ min: 2, max: 8 }),
    });
    fc.assert(
      fc.property(sizes, ({ count, more, topics: topicCount }) => {
        const names = upTo(topicCount).map((t) => `t${t}`);
        const topics = Object.fromEntries(names.map((name) => [name, count + more]));
        const members = upTo(count).map((m) => newcomer(`m${m}`, ...names));
        const fresh = firstPartitionsIn(assign(topics, members));
        expect(spread(fresh)).toBeLessThanOrEqual(1);
        const alone = members.slice(0, 1);
        const grown = [...rejoining(alone, assign(topics, alone)), ...members.slice(1)];
        expect(Math.max(...firstPartitionsIn(assign(topics, grown)))).toBeLessThan(topicCount);
      }),
    );
  });

  it('resolves a partition that two members claim: the one with fewer other claims retains it', () => {
    const both = [0, 1].map((partition) => ({ topic: 'orders', partition }));
    const stale = {
      ...newcomer('a', 'orders'),
      ownedPartitions: [...both, { topic: 'orders', partition: 2 }, { topic: 'orders', partition: 3 }],
    };
    const owner = { ...newcomer('b', 'orders'), ownedPartitions: both };
    const assignment = assign({ orders: 4 }, [stale, owner]);
    expect([...assignment].map(([id, at]) => [id, namesOf(at)])).toEqual([
      ['a', ['orders/2', 'orders/3']],
      ['b', ['orders/0', 'orders/1']],
    ]);
  });

  it('moves only the share of a new member, and only the partitions of a member that left', () => {
    const topics = { orders: 12, payments: 4 };
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((id) => newcomer(id, 'orders', 'payments')) as [
      GroupMember,
      GroupMember,
      GroupMember,
      GroupMember,
    ];
    const three = assign(topics, [a, b, c]);
    expect([...three.values()].map((at) => at.length).toSorted()).toEqual([5, 5, 6]);
    const four = assign(topics, [...rejoining([a, b, c], three), d]);
    expect([...four.values()].map((at) => at.length)).toEqual([4, 4, 4, 4]);
    expect(movesBetween(three, four)).toBe(4);
    const ofLeaver = countOf(four, 'b');
    const without = assign(topics, rejoining([a, c, d], four));
    expect(movesBetween(four, without)).toBe(ofLeaver);
  });

  it('moves only partitions of the replaced members in a rolling deploy that adds a topic', () => {
    const topics = { orders: 6, payments: 3 };
    let members = ['old1', 'old2', 'old3'].map((id) => newcomer(id, 'orders'));
    let assignment = assign(topics, members);
    const moves: [step: string, moves: number][] = [];
    const step = (name: string, next: readonly GroupMember[]): void => {
      const before = assignment;
      assignment = assign(topics, next);
      members = rejoining(next, assignment);
      moves.push([name, movesBetween(before, assignment)]);
    };
    members = rejoining(members, assignment);
    for (const n of [1, 2, 3]) {
      step(
        `old${n} leaves`,
        members.filter(({ id }) => id !== `old${n}`),
      );
      step(`new${n} joins`, [...members, newcomer(`new${n}`, 'orders', 'payments')]);
      const readers = members.filter(({ topics }) => topics.includes('payments'));
      expect(
        readers
          .flatMap(({ ownedPartitions }) => namesOf(ownedPartitions))
          .filter((name) => name.startsWith('payments')),
      ).toHaveLength(3);
    }
    expect(moves).toEqual([
      ['old1 leaves', 2],
      ['new1 joins', 2],
      ['old2 leaves', 2],
      // Two partitions of orders, one of payments.
      ['new2 joins', 3],
      ['old3 leaves', 2],
      ['new3 joins', 3],
    ]);
    expect(members.map(({ ownedPartitions }) => ownedPartitions.length)).toEqual([3, 3, 3]);
  });

  it('assigns its share to a member of another library, which reports no owned partitions', () => {
    const alone = assign({ orders: 4 }, [newcomer('a', 'orders')]);
    const members = [...rejoining([newcomer('a', 'orders')], alone), newcomer('foreign', 'orders')];
    const assignment = assign({ orders: 4 }, members);
    expect([countOf(assignment, 'a'), countOf(assignment, 'foreign')]).toEqual([2, 2]);
  });

  it('leaves out a topic without partitions or without metadata', () => {
    const assignment = assign({ orders: 1 }, [newcomer('a', 'gone', 'orders'), newcomer('b', 'gone')]);
    expect([...assignment]).toEqual([
      ['a', [{ topic: 'orders', partition: 0 }]],
      ['b', []],
    ]);
    expect([...assign({}, [])]).toEqual([]);
  });

  it.each([
    { topics: 1, partitions: 2000 },
    { topics: 100, partitions: 20 },
  ])(
    'assigns 2 000 partitions in $topics topics to 50 members within 100 ms',
    ({ topics: topicCount, partitions }) => {
      const names = upTo(topicCount).map((t) => `t${t}`);
      const topics = Object.fromEntries(names.map((name) => [name, partitions]));
      const members = upTo(50).map((m) => newcomer(`m${m}`, ...names));
      const fewer = members.slice(0, 49);
      const grown = [...rejoining(fewer, assign(topics, fewer)), members[49]!];
      const times = upTo(10).map(() => {
        const start = process.cpuUsage();
        assign(topics, grown);
        return process.cpuUsage(start).user / 1000;
      });
      // The fastest run: other load of the machine does not count.
      expect(Math.min(...times)).toBeLessThan(100);
    },
  );
});

function reordered<T>(all: readonly T[]): fc.Arbitrary<T[]> {
  return fc.shuffledSubarray([...all], { minLength: all.length });
}

function firstPartitionsIn(assignment: Assignment): number[] {
  return [...assignment.values()].map((at) => at.filter(({ partition }) => partition === 0).length);
}

describe('assignOne', () => {
  const at = { topic: 'orders.reply', partition: 3 };

  it('assigns the partition to the first subscriber by member id, and nothing to the others', () => {
    const members = [newcomer('c', 'orders.reply'), newcomer('a', 'other'), newcomer('b', 'orders.reply')];
    const expected = new Map([
      ['a', []],
      ['b', [at]],
      ['c', []],
    ]);
    expect(assignOne(at)(members, () => [0, 1, 2, 3])).toEqual(expected);
    expect(assignOne(at)(members.toReversed(), () => [])).toEqual(expected);
  });
});
