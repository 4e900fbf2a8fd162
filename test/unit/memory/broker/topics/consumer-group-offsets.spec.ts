import { describe, expect, it } from 'vitest';
import type { ConsumerGroup } from '../../../../../lib/memory/broker/topics/consumer-group.js';
import { newBroker } from '../../harness.js';
import { newMember, type TestMember } from './test-member.js';

describe('offsets', () => {
  async function twoMembers(): Promise<{ group: ConsumerGroup; one: TestMember; two: TestMember }> {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 2 });
    const group = broker.group('g');
    const [one, two] = [newMember('a'), newMember('a')];
    await group.join(one);
    await group.join(two);
    return { group, one, two };
  }

  it('are kept for the owner of the partition only', async () => {
    const { group, one, two } = await twoMembers();
    const mine = Number(one.owned()[0]!.split('/')[1]);
    expect(group.committed('a', mine)).toBeUndefined();
    expect(group.commit('a', mine, 5, two)).toBe(false);
    expect(group.committed('a', mine)).toBeUndefined();
    expect(group.commit('a', mine, 5, one)).toBe(true);
    expect(group.committed('a', mine)).toBe(5);
    expect(group.commit('none', 0, 5, one)).toBe(false);
  });

  it('can be committed while the member quiesces, and not after the partition is revoked', async () => {
    const { broker, clock } = newBroker();
    broker.createTopic('a', { partitions: 2 });
    const group = broker.group('g');
    const [one, two] = [newMember('a'), newMember('a')];
    await group.join(one);
    one.beBusy();
    const joining = group.join(two);
    await clock.advance(500);
    expect([group.commit('a', 0, 1, one), group.commit('a', 1, 1, one)]).toEqual([true, true]);
    await clock.advance(500);
    await joining;
    expect([group.commit('a', 0, 2, one), group.commit('a', 1, 2, one)].filter(Boolean)).toHaveLength(1);
  });

  it('cannot be committed once the owner has left, and are kept', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 1 });
    const group = broker.group('g');
    const member = newMember('a');
    const membership = await group.join(member);
    group.commit('a', 0, 3, member);
    const leaving = membership.leave();
    expect(group.commit('a', 0, 4, member)).toBe(false);
    await leaving;
    expect(group.committed('a', 0)).toBe(3);
  });

  it('are separate for each group, can be committed inside assigned, and are deleted with their topic', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 1 });
    const [one, two] = [newMember('a'), newMember('a')];
    let early: boolean | undefined;
    one.onAssigned = () => (early = broker.group('g1').commit('a', 0, 3, one));
    await broker.group('g1').join(one);
    await broker.group('g2').join(two);
    expect(early).toBe(true);
    expect([broker.group('g1').committed('a', 0), broker.group('g2').committed('a', 0)]).toEqual([
      3,
      undefined,
    ]);
    broker.deleteTopic('a');
    broker.createTopic('a', { partitions: 1 });
    expect(broker.group('g1').committed('a', 0)).toBeUndefined();
  });

  it('carry the completed ranges above them, until the next commit', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 1 });
    const group = broker.group('g');
    const member = newMember('a');
    await group.join(member);
    expect(group.completedAbove('a', 0)).toEqual([]);
    group.commit('a', 0, 3, member, [{ from: 5, to: 6 }]);
    expect([group.committed('a', 0), group.completedAbove('a', 0)]).toEqual([3, [{ from: 5, to: 6 }]]);
    group.commit('a', 0, 7, member);
    expect(group.completedAbove('a', 0)).toEqual([]);
  });

  it('define the lag: records without commit', async () => {
    const { broker } = newBroker();
    const topic = broker.createTopic('a', { partitions: 2 });
    for (const partition of [0, 0, 0, 1]) {
      topic.append({ value: null, headers: {}, timestamp: 0, partition });
    }
    const member = newMember('a');
    const group = broker.group('g');
    await group.join(member);
    expect(group.lag('a')).toBe(4);
    group.commit('a', 0, 2, member);
    expect(group.lag('a')).toBe(2);
    expect(group.lag('none')).toBe(0);
  });
});
