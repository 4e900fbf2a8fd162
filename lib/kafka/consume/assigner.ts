import type { AssignPartitions, GroupMember, TopicPartition } from '../client/client.js';

/**
 * A sticky assignor: spreads every topic evenly over its subscribers and moves few partitions.
 *
 * Each subscriber's quota of a topic is the even share, rounded down or up. Members that owned more than
 * the rounded-down share are rounded up first, then members with the fewest partitions over all topics.
 * Members with equal subscriptions then exchange rounded-up quotas until their totals differ by one at
 * most. Each member keeps as many of its previous partitions as its quota allows. The other partitions are
 * assigned round-robin; the member with the fewest first partitions gets a topic's first one.
 */
export const assignSticky: AssignPartitions = (members, partitionsOf) => {
  const states = byId(members).map(newMemberState);
  const topics = newTopicStates(states, partitionsOf);
  for (const topic of topics) roundUp(topic, previousOwnersAboveQuota(topic));
  for (const topic of topics) roundUp(topic, without(topic.roundedUp, topic.subscribers));
  for (const equals of groupBySubscription(states)) balance(equals);
  for (const topic of topics) assignTopic(topic);
  return new Map(states.map(({ member, assignment }) => [member.id, assignment]));
};

/** Assigns one partition: to the first subscriber of its topic by member id. The other members get none. */
export function assignOne(at: TopicPartition): AssignPartitions {
  return (members) => {
    const [first] = byId(members.filter(({ topics }) => topics.includes(at.topic)));
    return new Map(members.map((member) => [member.id, member === first ? [at] : []]));
  };
}

interface MemberState {
  readonly member: GroupMember;
  /** Subscribed topics that have partitions, sorted by name. */
  readonly topics: TopicState[];
  /** Sum of its quotas. */
  total: number;
  /** Number of topics of which it gets the first partition. */
  firstPartitions: number;
  /** Number of topics of which it owned more partitions than its quota. */
  truncatedTopics: number;
  readonly assignment: TopicPartition[];
}

/** A member that reports to have owned a partition of the topic. */
interface OwnershipClaim {
  readonly member: MemberState;
  readonly partition: number;
}

interface TopicState {
  readonly topic: string;
  /** Sorted. */
  readonly partitions: readonly number[];
  /** Sorted by member id. */
  readonly subscribers: readonly MemberState[];
  /** The even share, rounded down. */
  readonly minQuota: number;
  /** Number of subscribers whose quota is one more. */
  readonly remainder: number;
  /** Those subscribers. */
  readonly roundedUp: Set<MemberState>;
  /** Partitions by previous owner, each partition once. */
  readonly previous: ReadonlyMap<MemberState, readonly number[]>;
}

function newMemberState(member: GroupMember): MemberState {
  return { member, topics: [], total: 0, firstPartitions: 0, truncatedTopics: 0, assignment: [] };
}

function newTopicStates(
  members: readonly MemberState[],
  partitionsOf: (topic: string) => readonly number[],
): TopicState[] {
  const subscribersByTopic = new Map<string, MemberState[]>();
  const claimsByTopic = new Map<string, OwnershipClaim[]>();
  for (const state of members) {
    const subscription = new Set(state.member.topics);
    for (const topic of subscription) push(subscribersByTopic, topic, state);
    for (const { topic, partition } of state.member.ownedPartitions) {
      if (subscription.has(topic)) push(claimsByTopic, topic, { member: state, partition });
    }
  }
  const topics: TopicState[] = [];
  for (const topic of [...subscribersByTopic.keys()].toSorted()) {
    const partitions = partitionsOf(topic).toSorted((a, b) => a - b);
    if (partitions.length === 0) continue;
    const subscribers = subscribersByTopic.get(topic)!;
    const minQuota = Math.floor(partitions.length / subscribers.length);
    const state = {
      topic,
      partitions,
      subscribers,
      minQuota,
      remainder: partitions.length % subscribers.length,
      roundedUp: new Set<MemberState>(),
      previous: resolvePreviousOwners(partitions, claimsByTopic.get(topic) ?? []),
    };
    topics.push(state);
    for (const subscriber of subscribers) {
      subscriber.topics.push(state);
      subscriber.total += minQuota;
    }
  }
  return topics;
}

/**
 * A partition with several claims goes to the member with the fewest others: it can most likely keep it.
 */
function resolvePreviousOwners(
  partitions: readonly number[],
  claims: readonly OwnershipClaim[],
): Map<MemberState, number[]> {
  const owned = new Map<MemberState, number[]>();
  const claimants = new Map(partitions.map((partition) => [partition, new Set<MemberState>()]));
  for (const { member, partition } of claims) claimants.get(partition)?.add(member);
  const count = (member: MemberState): number => owned.get(member)?.length ?? 0;
  for (const contested of [false, true]) {
    for (const [partition, claiming] of claimants) {
      if (claiming.size === 0 || claiming.size > 1 !== contested) continue;
      const fewest = [...claiming].reduce((a, b) => (count(b) < count(a) ? b : a));
      push(owned, fewest, partition);
    }
  }
  return owned;
}

function previousPartitions(topic: TopicState, member: MemberState): readonly number[] {
  return topic.previous.get(member) ?? [];
}

function previousOwnersAboveQuota(topic: TopicState): MemberState[] {
  return [...topic.previous.keys()].filter((member) => ownedAboveQuota(topic, member));
}

function without(excluded: ReadonlySet<MemberState>, members: readonly MemberState[]): MemberState[] {
  return members.filter((member) => !excluded.has(member));
}

/** True if the member keeps one partition more if its quota is rounded up. */
function ownedAboveQuota(topic: TopicState, member: MemberState): boolean {
  return previousPartitions(topic, member).length > topic.minQuota;
}

/** Rounds up the quotas of these members while the topic has a remainder, smallest total first. */
function roundUp(topic: TopicState, members: readonly MemberState[]): void {
  const ascending = members.toSorted((a, b) => a.total - b.total);
  for (const member of ascending.slice(0, topic.remainder - topic.roundedUp.size)) {
    topic.roundedUp.add(member);
    member.total++;
  }
}

/**
 * Transfers rounded-up quotas between members with equal subscriptions until their totals differ by one at
 * most: first transfers that let a partition stay, then those that move none, at last those that move one.
 */
function balance(members: readonly MemberState[]): void {
  const any = (): boolean => true;
  const notAboveQuota: TransferFilter = (topic, member) => !ownedAboveQuota(topic, member);
  for (const [canGive, canTake] of [
    [notAboveQuota, ownedAboveQuota],
    [notAboveQuota, any],
    [any, ownedAboveQuota],
    [any, any],
  ] as const) {
    for (let transferred = true; transferred && !isBalanced(members);) {
      transferred = false;
      for (const topic of members[0]!.topics)
        while (transferQuota(topic, members, canGive, canTake)) transferred = true;
    }
  }
}

function isBalanced(members: readonly MemberState[]): boolean {
  const totals = members.map(({ total }) => total);
  return Math.max(...totals) - Math.min(...totals) <= 1;
}

type TransferFilter = (topic: TopicState, member: MemberState) => boolean;

/** False if no possible giver has a total of two more than a possible taker. */
function transferQuota(
  topic: TopicState,
  members: readonly MemberState[],
  canGive: TransferFilter,
  canTake: TransferFilter,
): boolean {
  let giver: MemberState | undefined;
  let taker: MemberState | undefined;
  for (const member of members) {
    if (topic.roundedUp.has(member)) {
      if (canGive(topic, member) && (giver === undefined || member.total > giver.total)) giver = member;
    } else if (canTake(topic, member) && (taker === undefined || member.total < taker.total)) taker = member;
  }
  if (giver === undefined || taker === undefined || giver.total - taker.total < 2) return false;
  topic.roundedUp.delete(giver);
  topic.roundedUp.add(taker);
  giver.total--;
  taker.total++;
  return true;
}

function assignTopic(topic: TopicState): void {
  const members = topic.minQuota === 0 ? [...topic.roundedUp] : topic.subscribers;
  const assigned = new Map(members.map((member) => [member, keptPartitions(topic, member)]));
  const kept = new Set([...assigned.values()].flat());
  const free = topic.partitions.filter((partition) => !kept.has(partition));
  const ascending = members.toSorted((a, b) => a.firstPartitions - b.firstPartitions);
  for (let round = 0; round <= topic.minQuota; round++) {
    for (const member of ascending.filter((one) => assigned.get(one)!.length < quotaOf(topic, one))) {
      assigned.get(member)!.push(free.shift()!);
    }
  }
  for (const [member, partitions] of assigned) {
    if (partitions.includes(topic.partitions[0]!)) member.firstPartitions++;
    const sorted = partitions.toSorted((a, b) => a - b);
    member.assignment.push(...sorted.map((partition) => ({ topic: topic.topic, partition })));
  }
}

/**
 * The previous partitions that fit into the quota. Each topic that has to be truncated begins one partition
 * further on, or the first member of a growing group would keep the first partition of every topic.
 */
function keptPartitions(topic: TopicState, member: MemberState): number[] {
  const previous = previousPartitions(topic, member);
  const quota = quotaOf(topic, member);
  if (previous.length <= quota) return [...previous];
  const start = member.truncatedTopics++ % previous.length;
  return [...previous.slice(start), ...previous.slice(0, start)].slice(0, quota);
}

function quotaOf(topic: TopicState, member: MemberState): number {
  return topic.minQuota + (topic.roundedUp.has(member) ? 1 : 0);
}

function groupBySubscription(members: readonly MemberState[]): Iterable<MemberState[]> {
  const groups = new Map<string, MemberState[]>();
  for (const member of members) push(groups, JSON.stringify(member.topics.map(({ topic }) => topic)), member);
  return groups.values();
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

function byId(members: readonly GroupMember[]): GroupMember[] {
  return members.toSorted((a, b) => (a.id < b.id ? -1 : 1));
}
