import { describe, expect, it } from 'vitest';
import { newBroker, settle } from '../../harness.js';
import { counts, newMember } from './test-member.js';

describe('a rebalance', () => {
  it('waits until every member has quiesced before it assigns anything', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 2 });
    const group = broker.group('g');
    const [one, two] = [newMember('a'), newMember('a')];
    await group.join(one);
    const goOn = one.beBusy();
    const joining = group.join(two);
    await settle();
    expect(two.assignments).toEqual([]);
    expect(one.owned()).toEqual(['a/0', 'a/1']);
    goOn();
    await joining;
    expect(counts(one, two)).toEqual([1, 1]);
  });

  it('waits no longer than the member’s revoke timeout', async () => {
    const { broker, clock } = newBroker();
    broker.createTopic('a', { partitions: 2 });
    const group = broker.group('g');
    const [one, two] = [newMember('a'), newMember('a')];
    await group.join(one);
    one.beBusy();
    const joining = group.join(two);
    await clock.advance(999);
    expect(two.assignments).toEqual([]);
    await clock.advance(1);
    await joining;
    expect(counts(one, two)).toEqual([1, 1]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('continues when quiesce rejects or throws', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 1 });
    const group = broker.group('g');
    const [one, two] = [newMember('a'), newMember('a')];
    one.quiesce = () => Promise.reject(new Error('no'));
    two.quiesce = () => {
      throw new Error('no');
    };
    await group.join(one);
    await group.join(two);
    expect(counts(one, two)).toEqual([1, 0]);
  });

  it('runs one at a time; all requests during one share the next', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 6 });
    const group = broker.group('g');
    const one = newMember('a');
    const membership = await group.join(one);
    const goOn = one.beBusy();
    const running = membership.refresh();
    await settle();
    const more = [group.join(newMember('a')), group.join(newMember('a')), membership.refresh()];
    await settle();
    expect(one.quiesceCalls).toBe(2);
    goOn();
    await Promise.all([running, ...more]);
    expect(one.quiesceCalls).toBe(3);
    expect(one.assignments.map((names) => names.length)).toEqual([6, 6, 2]);
  });
});

describe('leaving', () => {
  it('does not wait for the member that leaves, even in a running rebalance', async () => {
    const { broker, clock } = newBroker();
    broker.createTopic('a', { partitions: 2 });
    const group = broker.group('g');
    const [one, two] = [newMember('a'), newMember('a')];
    const first = await group.join(one);
    await group.join(two);
    one.beBusy();
    const refreshing = first.refresh();
    await settle();
    await first.leave();
    await refreshing;
    expect(two.owned()).toEqual(['a/0', 'a/1']);
    expect(clock.pendingTimers).toBe(0);
    expect(group.members).toBe(1);
  });

  it('neither quiesces a member that has left nor assigns partitions to it', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 2 });
    const group = broker.group('g');
    const [one, two] = [newMember('a'), newMember('a')];
    const first = await group.join(one);
    await group.join(two);
    const before = [one.quiesceCalls, one.assignments.length];
    await first.leave();
    await first.leave();
    await first.refresh();
    expect([one.quiesceCalls, one.assignments.length]).toEqual(before);
    expect(two.quiesceCalls).toBe(2);
  });

  it('lets the member join again', async () => {
    const { broker } = newBroker();
    broker.createTopic('a', { partitions: 1 });
    const group = broker.group('g');
    const member = newMember('a');
    const first = await group.join(member);
    await expect(group.join(member)).rejects.toThrow(/in group "g" already/);
    await first.leave();
    await group.join(member);
    await first.leave();
    expect(member.owned()).toEqual(['a/0']);
    expect(group.members).toBe(1);
  });

  it('happens to all members when the broker closes, without waiting for any', async () => {
    const { broker, clock } = newBroker();
    broker.createTopic('a', { partitions: 1 });
    const group = broker.group('g');
    const member = newMember('a');
    const membership = await group.join(member);
    member.beBusy();
    const refreshing = membership.refresh();
    await settle();
    broker.close();
    await refreshing;
    expect(member.assignments).toHaveLength(1);
    expect(clock.pendingTimers).toBe(0);
    expect(group.commit('a', 0, 1, member)).toBe(false);
    await expect(group.join(newMember('a'))).rejects.toThrow(/closed/);
  });
});
