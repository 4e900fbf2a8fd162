import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignOne, assignSticky, decodeHeld, encodeHeld } from '../../../../lib/kafka/consume/assigner.js';
import type { GroupMember, TopicPartition } from '../../../../lib/kafka/client/client.js';

type Assignment = ReadonlyMap<string, readonly TopicPartition[]>;
/** Partitions of each topic; others do not exist. */
type Topics = Readonly<Record<string, number>>;

const newcomer = (id: string, ...topics: readonly string[]): GroupMember => ({ id, topics, held: [] });

function assign(topics: Topics, members: readonly GroupMember[]): Assignment {
  return assignSticky(members, (topic) => upTo(topics[topic] ?? 0));
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** The same members as they join again, with what they were given. */
function afterwards(members: readonly GroupMember[], assignment: Assignment): GroupMember[] {
  return members.map((member) => ({ ...member, held: assignment.get(member.id)! }));
}

const nameOf = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`;

const namesOf = (at: readonly TopicPartition[]): string[] => at.map(nameOf);

function countOf(assignment: Assignment, id: string, topic?: string): number {
  return assignment.get(id)!.filter((at) => topic === undefined || at.topic === topic).length;
}

/** How many partitions are with somebody else now; those that nobody had do not count. */
function movesBetween(before: Assignment, after: Assignment): number {
  const owners = ownersIn(after);
  return [...ownersIn(before)].filter(([name, id]) => owners.has(name) && owners.get(name) !== id).length;
}

function ownersIn(assignment: Assignment): Map<string, string> {
  return new Map([...assignment].flatMap(([id, at]) => at.map((one) => [nameOf(one), id] as const)));
}

function keptIn(members: readonly GroupMember[], assignment: Assignment): number {
  const owners = ownersIn(assignment);
  return members.flatMap(({ id, held }) =>
    [...new Set(namesOf(held))].filter((name) => owners.get(name) === id),
  ).length;
}

function spread(counts: readonly number[]): number {
  return Math.max(...counts) - Math.min(...counts);
}

/** `gone` does not exist. */
const topicNames = ['a', 'b', 'c', 'd', 'gone'];

/** Members with whatever subscriptions and claims: stale, of others, of what does not exist, twice. */
const groups = fc.record({
  topics: fc.record({ a: fc.nat(9), b: fc.nat(5), c: fc.nat(3), d: fc.nat(3) }),
  members: fc.uniqueArray(
    fc.record({
      id: fc.string({ minLength: 1, maxLength: 3 }),
      // Few kinds, so that some members are equal.
      topics: fc.constantFrom<(readonly string[])[]>(
        ['a', 'b', 'c', 'd'],
        ['a', 'b', 'c', 'd'],
        ['a', 'gone'],
        ['b', 'a', 'b'],
        ['c', 'd', 'a'],
        [],
      ),
      held: fc.array(fc.record({ topic: fc.constantFrom(...topicNames), partition: fc.nat(10) }), {
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

/** A group that subscribes to everything; who held which partition, by topic. */
function equalGroups(sizes: { members: number; topics: number; partitions: number }) {
  return fc.integer({ min: 1, max: sizes.members }).chain((count) => {
    const owner = fc.option(fc.nat(count - 1), { nil: undefined, freq: 6 });
    const topic = fc.array(owner, { minLength: 1, maxLength: sizes.partitions });
    return fc.array(topic, { minLength: 1, maxLength: sizes.topics }).map((owners) => ({
      topics: Object.fromEntries(owners.map((partitions, t) => [`t${t}`, partitions.length])),
      members: upTo(count).map((m) => ({
        id: `m${m}`,
        topics: owners.map((_, t) => `t${t}`),
        held: owners.flatMap((partitions, t) =>
          partitions.flatMap((owner, partition) => (owner === m ? [{ topic: `t${t}`, partition }] : [])),
        ),
      })),
    }));
  });
}

/** The most that a balanced assignment can leave where it was; tries them all. */
function mostThatCanStay(topics: Topics, members: readonly GroupMember[]): number {
  const held = new Map(members.flatMap(({ held }, m) => held.map((at) => [nameOf(at), m] as const)));
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

/** How many each member can get of a topic, and how many of them can be those that it held. */
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
  it('gives every partition of a topic that somebody subscribes to, once, to a subscriber, and answers for every member', () => {
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

  it('moves nothing when everybody joins again with what it was given', () => {
    fc.assert(
      fc.property(groups, ({ topics, members }) => {
        const assignment = assign(topics, members);
        expect(assign(topics, afterwards(members, assignment))).toEqual(assignment);
      }),
      { numRuns: 1000 },
    );
  });

  it('leaves of one topic as much where it was as any even spread can', () => {
    fc.assert(
      fc.property(equalGroups({ members: 4, topics: 1, partitions: 6 }), ({ topics, members }) => {
        expect(keptIn(members, assign(topics, members))).toBe(mostThatCanStay(topics, members));
      }),
      { numRuns: 500 },
    );
  });

  it('leaves of several topics as much where it was as any balanced assignment can, but for one at most', () => {
    fc.assert(
      fc.property(equalGroups({ members: 3, topics: 3, partitions: 4 }), ({ topics, members }) => {
        expect(keptIn(members, assign(topics, members))).toBeGreaterThanOrEqual(
          mostThatCanStay(topics, members) - 1,
        );
      }),
      { numRuns: 500 },
    );
  });

  it('levels first where somebody else can keep more for it', () => {
    const topics = { x: 4, y: 1, z: 1 };
    const holding = (id: string, ...names: readonly string[]): GroupMember => ({
      ...newcomer(id, 'x', 'y', 'z'),
      held: names.map((name) => ({ topic: name[0]!, partition: Number(name[1]) })),
    });
    const members = [holding('a', 'x0', 'x1', 'y0', 'z0'), holding('b'), holding('c', 'x2', 'x3')];
    expect(mostThatCanStay(topics, members)).toBe(4);
    expect(keptIn(members, assign(topics, members))).toBe(4);
  });

  it('does not depend on the order of members, topics or claims', () => {
    const shuffled = groups.chain(({ topics, members }) =>
      fc
        .tuple(
          ...members.map((member) =>
            fc
              .tuple(reordered(member.topics), reordered(member.held))
              .map(([topics, held]): GroupMember => ({ id: member.id, topics, held })),
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

  it('gives nobody all first partitions, neither in a new group nor in one that has grown from one member', () => {
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
        const fresh = firstsIn(assign(topics, members));
        expect(spread(fresh)).toBeLessThanOrEqual(1);
        const alone = members.slice(0, 1);
        const grown = [...afterwards(alone, assign(topics, alone)), ...members.slice(1)];
        expect(Math.max(...firstsIn(assign(topics, grown)))).toBeLessThan(topicCount);
      }),
    );
  });

  it('lets exactly one keep what two claim, the one with fewer other claims', () => {
    const both = [0, 1].map((partition) => ({ topic: 'orders', partition }));
    const stale = {
      ...newcomer('a', 'orders'),
      held: [...both, { topic: 'orders', partition: 2 }, { topic: 'orders', partition: 3 }],
    };
    const owner = { ...newcomer('b', 'orders'), held: both };
    const assignment = assign({ orders: 4 }, [stale, owner]);
    expect([...assignment].map(([id, at]) => [id, namesOf(at)])).toEqual([
      ['a', ['orders/2', 'orders/3']],
      ['b', ['orders/0', 'orders/1']],
    ]);
  });

  it('moves on a scale out what the newcomer gets, and on a scale in what the leaver had', () => {
    const topics = { orders: 12, payments: 4 };
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((id) => newcomer(id, 'orders', 'payments')) as [
      GroupMember,
      GroupMember,
      GroupMember,
      GroupMember,
    ];
    const three = assign(topics, [a, b, c]);
    expect([...three.values()].map((at) => at.length).toSorted()).toEqual([5, 5, 6]);
    const four = assign(topics, [...afterwards([a, b, c], three), d]);
    expect([...four.values()].map((at) => at.length)).toEqual([4, 4, 4, 4]);
    expect(movesBetween(three, four)).toBe(4);
    const leaver = countOf(four, 'b');
    const without = assign(topics, afterwards([a, c, d], four));
    expect(movesBetween(four, without)).toBe(leaver);
  });

  it('moves in a rolling deploy that adds a topic only what must: what the old one had, and new partitions among the new', () => {
    const topics = { orders: 6, payments: 3 };
    let members = ['old1', 'old2', 'old3'].map((id) => newcomer(id, 'orders'));
    let assignment = assign(topics, members);
    const moves: [step: string, moves: number][] = [];
    const step = (name: string, next: readonly GroupMember[]): void => {
      const before = assignment;
      assignment = assign(topics, next);
      members = afterwards(next, assignment);
      moves.push([name, movesBetween(before, assignment)]);
    };
    members = afterwards(members, assignment);
    for (const n of [1, 2, 3]) {
      step(
        `old${n} leaves`,
        members.filter(({ id }) => id !== `old${n}`),
      );
      step(`new${n} joins`, [...members, newcomer(`new${n}`, 'orders', 'payments')]);
      const readers = members.filter(({ topics }) => topics.includes('payments'));
      expect(
        readers.flatMap(({ held }) => namesOf(held)).filter((name) => name.startsWith('payments')),
      ).toHaveLength(3);
    }
    expect(moves).toEqual([
      ['old1 leaves', 2],
      ['new1 joins', 2],
      ['old2 leaves', 2],
      // Two of orders, one of payments.
      ['new2 joins', 3],
      ['old3 leaves', 2],
      ['new3 joins', 3],
    ]);
    expect(members.map(({ held }) => held.length)).toEqual([3, 3, 3]);
  });

  it('gives a member of a foreign client, which tells nothing, its share', () => {
    const alone = assign({ orders: 4 }, [newcomer('a', 'orders')]);
    const members = [...afterwards([newcomer('a', 'orders')], alone), newcomer('foreign', 'orders')];
    const assignment = assign({ orders: 4 }, members);
    expect([countOf(assignment, 'a'), countOf(assignment, 'foreign')]).toEqual([2, 2]);
  });

  it('leaves out a topic that has no partitions or cannot be looked up', () => {
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
    'divides 2 000 partitions in $topics topics among 50 members at once',
    ({ topics: topicCount, partitions }) => {
      const names = upTo(topicCount).map((t) => `t${t}`);
      const topics = Object.fromEntries(names.map((name) => [name, partitions]));
      const members = upTo(50).map((m) => newcomer(`m${m}`, ...names));
      const fewer = members.slice(0, 49);
      const grown = [...afterwards(fewer, assign(topics, fewer)), members[49]!];
      const times = upTo(10).map(() => {
        const start = process.cpuUsage();
        assign(topics, grown);
        return process.cpuUsage(start).user / 1000;
      });
      // The fastest: what else the machine does shall not count.
      expect(Math.min(...times)).toBeLessThan(100);
    },
  );
});

function reordered<T>(all: readonly T[]): fc.Arbitrary<T[]> {
  return fc.shuffledSubarray([...all], { minLength: all.length });
}

function firstsIn(assignment: Assignment): number[] {
  return [...assignment.values()].map((at) => at.filter(({ partition }) => partition === 0).length);
}

describe('assignOne', () => {
  const at = { topic: 'orders.reply', partition: 3 };

  it('gives the partition to the first member by id that subscribes to its topic, and nothing to the others', () => {
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

describe('encodeHeld and decodeHeld', () => {
  const partitions = fc.array(
    fc.record({
      topic: fc.constantFrom('a', 'b.c', '7', '__proto__', 'ü"', 'constructor'),
      partition: fc.nat(5000),
    }),
  );

  it('writes compact JSON', () => {
    const held = [0, 1].map((partition) => ({ topic: 'orders', partition }));
    expect(encodeHeld(held).toString()).toBe('{"orders":[0,1]}');
    expect(encodeHeld([]).toString()).toBe('{}');
  });

  it('gives back what was held, whatever the topics are called', () => {
    fc.assert(
      fc.property(partitions, (held) => {
        const decoded = decodeHeld(encodeHeld(held));
        expect(namesOf(decoded).toSorted()).toEqual(namesOf(held).toSorted());
      }),
    );
  });

  it.each([
    ['one topic', (n: number) => ({ topic: 'orders', partition: n })],
    ['many topics', (n: number) => ({ topic: `orders-ü-${n}`, partition: n })],
  ])('leaves out what does not fit into 64 kB, of %s', (_, at) => {
    const held = upTo(20_000).map(at);
    const encoded = encodeHeld(held);
    expect(encoded.length).toBeLessThanOrEqual(64_000);
    expect(encoded.length).toBeGreaterThan(63_900);
    const decoded = decodeHeld(encoded);
    expect(decoded).toEqual(held.slice(0, decoded.length));
  });

  it('takes nothing from what others write, or is not sound throughout', () => {
    const texts = [
      undefined,
      '',
      '\0\0\0\u0001',
      '[]',
      'null',
      '7',
      '"orders"',
      '[[0]]',
      '{"orders":0}',
      '{"orders":{"length":1}}',
      '{"orders":["0"]}',
      '{"orders":[-1]}',
      '{"orders":[1.5]}',
      '{"orders":[1e300]}',
      '{"orders":[null]}',
      '{"orders":[0],"payments":null}',
      '{"orders":[0]',
      `{"orders":[${'0,'.repeat(40_000)}0]}`,
      '['.repeat(60_000),
    ];
    for (const text of texts) {
      const userData = text === undefined ? undefined : Buffer.from(text);
      expect(decodeHeld(userData), text?.slice(0, 40)).toEqual([]);
    }
  });

  it('never throws and tells only what can be a partition, whatever the bytes', () => {
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      fc.json().map((text) => Buffer.from(text)),
      fc
        .dictionary(
          fc.string(),
          fc.oneof(fc.array(fc.oneof(fc.nat(), fc.double(), fc.integer())), fc.jsonValue()),
        )
        .map((value) => Buffer.from(JSON.stringify(value))),
    );
    fc.assert(
      fc.property(hostile, (userData) => {
        for (const { topic, partition } of decodeHeld(userData)) {
          expect(typeof topic).toBe('string');
          expect(Number.isSafeInteger(partition) && partition >= 0).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
