import { describe, expect, it } from 'vitest';
import { newBroker, settle } from '../../harness.js';
import { counts, newMember } from './test-member.js';

describe('assignment', () => {
  it('gives a lone member everything it subscribes to, also a topic created later', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 2 });
    const member = newMember('a', 'b');
    await broker.group('g').join(member);
    expect(member.owned()).toEqual(['a/0', 'a/1']);
    broker.createTopic('b', { partitions: 1 });
    await settle();
    expect(member.owned()).toEqual(['a/0', 'a/1', 'b/0']);
  });

  it('is even to within one partition for each topic', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 7 });
    const group = broker.group('g');
    const members = [newMember('a'), newMember('a'), newMember('a')];
    for (const member of members) await group.join(member);
    expect(counts(...members).toSorted((a, b) => a - b)).toEqual([2, 2, 3]);
    expect(members.flatMap((member) => member.owned()).toSorted()).toEqual(
      [0, 1, 2, 3, 4, 5, 6].map((partition) => `a/${partition}`),
    );
  });

  it('spreads topics with one partition over the members', async () => {
    const { broker } = newBroker();
    const topics = ['a', 'b', 'c', 'd'];
    for (const topic of topics) broker.createTopic(topic, { partitions: 1 });
    const group = broker.group('g');
    const [one, two] = [newMember(...topics), newMember(...topics)];
    const left = await group.join(newMember(...topics));
    await group.join(one);
    await group.join(two);
    await left.leave();
    expect(counts(one, two)).toEqual([2, 2]);
  });

  it('is sticky where the counts stay even', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 6 });
    const group = broker.group('g');
    const [one, two, three] = [newMember('a'), newMember('a'), newMember('a')];
    await group.join(one);
    await group.join(two);
    const before = [new Set(one.owned()), new Set(two.owned())];
    const third = await group.join(three);
    expect(counts(one, two, three)).toEqual([2, 2, 2]);
    expect([one, two].every((member, i) => member.owned().every((name) => before[i]!.has(name)))).toBe(true);
    const kept = [...one.owned(), ...two.owned()];
    await third.leave();
    expect(counts(one, two)).toEqual([3, 3]);
    expect(kept.every((name, i) => [one, two][i < 2 ? 0 : 1]!.owned().includes(name))).toBe(true);
  });

  it('moves nothing where the counts differ by at most one', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 2 });
    broker.createTopic('b', { partitions: 1 });
    const group = broker.group('g');
    const [one, two] = [newMember('b', 'a'), newMember('a')];
    const first = await group.join(one);
    await group.join(two);
    broker.createTopic('a', { partitions: 3 });
    await settle();
    expect(counts(one, two)).toEqual([2, 2]);
    const before = two.owned();
    one.subscribe('a');
    await first.refresh();
    expect(two.owned()).toEqual(before);
    expect(counts(one, two)).toEqual([1, 2]);
  });

  it('gives partitions of a topic only to members that subscribe to it', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 4 });
    broker.createTopic('b', { partitions: 4 });
    const [both, onlyA] = [newMember('a', 'b'), newMember('a')];
    const group = broker.group('g');
    await group.join(both);
    await group.join(onlyA);
    expect(onlyA.owned().every((name) => name.startsWith('a/'))).toBe(true);
    expect(counts(both, onlyA)).toEqual([6, 2]);
  });

  it('follows refresh, growth and deletion of topics', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 1 });
    broker.createTopic('b', { partitions: 1 });
    const member = newMember('a');
    const membership = await broker.group('g').join(member);
    member.subscribe('a', 'b');
    await membership.refresh();
    expect(member.owned()).toEqual(['a/0', 'b/0']);
    broker.createTopic('a', { partitions: 2 });
    await settle();
    expect(member.owned()).toEqual(['a/0', 'a/1', 'b/0']);
    member.subscribe('b');
    broker.deleteTopic('a');
    await settle();
    expect(member.owned()).toEqual(['b/0']);
  });

  it('does not rebalance for a topic that no member reads', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 1 });
    const member = newMember('a');
    await broker.group('g').join(member);
    broker.createTopic('other', { partitions: 1 });
    await settle();
    expect(member.quiesceCalls).toBe(1);
  });
});
