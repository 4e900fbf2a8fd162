import type { GroupMember, TopicPartition } from '../../../../../lib/memory/broker/topics/consumer-group.js';

export interface TestMember extends GroupMember {
  quiesce: () => Promise<void>;
  onAssigned: () => void;
  /** Every assignment so far, as `topic/partition`. */
  readonly assignments: string[][];
  quiesceCalls: number;
  /** The last assignment, sorted. */
  owned(): string[];
  subscribe(...topics: string[]): void;
  /** From now on `quiesce` resolves only when the returned function is called. */
  beBusy(): () => void;
}

export function newMember(...topics: string[]): TestMember {
  let subscribed = topics;
  let idle = Promise.resolve();
  const member: TestMember = {
    revokeTimeoutMs: 1_000,
    assignments: [],
    quiesceCalls: 0,
    onAssigned: () => {},
    topics: () => subscribed,
    quiesce: () => {
      member.quiesceCalls += 1;
      return idle;
    },
    assigned: (partitions: readonly TopicPartition[]) => {
      member.assignments.push(partitions.map(({ topic, partition }) => `${topic}/${partition}`));
      member.onAssigned();
    },
    owned: () => (member.assignments.at(-1) ?? []).toSorted(),
    subscribe: (...names) => {
      subscribed = names;
    },
    beBusy: () => {
      let goOn = (): void => {};
      idle = new Promise((resolve) => {
        goOn = resolve;
      });
      return () => goOn();
    },
  };
  return member;
}

export function counts(...members: TestMember[]): number[] {
  return members.map((member) => member.owned().length);
}
