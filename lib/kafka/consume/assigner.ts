import type { AssignPartitions, GroupMember, TopicPartition } from '../client/client.js';

/**
 * Spreads every topic evenly over the members that subscribe to it, and moves no more than that takes.
 *
 * Everybody's share of a topic is the same, rounded down or up. Who rounds up is what there is to choose: those who hold that much
 * already, then those who get least; then some pass it on, until members with equal subscriptions differ by one at most over all topics
 * too. Everybody keeps of what it held as much as its share allows. The rest is dealt out, each topic's first partition to whoever has
 * fewest of these.
 */
export const assignSticky: AssignPartitions = (members, partitionsOf) => {
  const seats = byId(members).map(newSeat);
  const topics = shareTopics(seats, partitionsOf);
  for (const topic of topics) roundUp(topic, holders(topic));
  for (const topic of topics) roundUp(topic, othersThan(topic.roundedUp, topic.seats));
  for (const equals of groupBySubscription(seats)) level(equals);
  for (const topic of topics) deal(topic);
  return new Map(seats.map(({ member, gets }) => [member.id, gets]));
};

/** For a group whose only wish is one partition: the first by id of those that subscribe to its topic gets it, the others nothing. */
export function assignOne(at: TopicPartition): AssignPartitions {
  return (members) => {
    const [first] = byId(members.filter(({ topics }) => topics.includes(at.topic)));
    return new Map(members.map((member) => [member.id, member === first ? [at] : []]));
  };
}

/** A member while its partitions are chosen. */
interface Seat {
  readonly member: GroupMember;
  /** Those it subscribes to that have partitions, in order of their names. */
  readonly topics: SharedTopic[];
  /** What its shares come to. */
  total: number;
  /** Of how many topics it gets the first partition. */
  firsts: number;
  /** Of how many topics it may not keep all that it held. */
  cuts: number;
  readonly gets: TopicPartition[];
}

/** A member that says it held a partition of the topic at hand. */
interface Claim {
  readonly seat: Seat;
  readonly partition: number;
}

interface SharedTopic {
  readonly topic: string;
  /** In order. */
  readonly partitions: readonly number[];
  /** Who subscribes to it, in order of their ids. */
  readonly seats: readonly Seat[];
  /** What each of them gets at least. */
  readonly share: number;
  /** How many of them get one more than that. */
  readonly spare: number;
  /** Who does. */
  readonly roundedUp: Set<Seat>;
  /** No partition twice. */
  readonly held: ReadonlyMap<Seat, readonly number[]>;
}

function newSeat(member: GroupMember): Seat {
  return { member, topics: [], total: 0, firsts: 0, cuts: 0, gets: [] };
}

function shareTopics(
  seats: readonly Seat[],
  partitionsOf: (topic: string) => readonly number[],
): SharedTopic[] {
  const subscribers = new Map<string, Seat[]>();
  const claims = new Map<string, Claim[]>();
  for (const seat of seats) {
    const wanted = new Set(seat.member.topics);
    for (const topic of wanted) push(subscribers, topic, seat);
    for (const { topic, partition } of seat.member.held) {
      if (wanted.has(topic)) push(claims, topic, { seat, partition });
    }
  }
  const topics: SharedTopic[] = [];
  for (const topic of [...subscribers.keys()].toSorted()) {
    const partitions = partitionsOf(topic).toSorted((a, b) => a - b);
    if (partitions.length === 0) continue;
    const seats = subscribers.get(topic)!;
    const held = settleClaims(partitions, claims.get(topic) ?? []);
    const share = Math.floor(partitions.length / seats.length);
    const shared = {
      topic,
      partitions,
      seats,
      share,
      spare: partitions.length % seats.length,
      roundedUp: new Set<Seat>(),
      held,
    };
    topics.push(shared);
    for (const seat of seats) {
      seat.topics.push(shared);
      seat.total += share;
    }
  }
  return topics;
}

/** Who held what. Of several that claim a partition, the one with the fewest others has it: that one can keep it the likeliest. */
function settleClaims(partitions: readonly number[], claims: readonly Claim[]): Map<Seat, number[]> {
  const held = new Map<Seat, number[]>();
  const claimants = new Map(partitions.map((partition) => [partition, new Set<Seat>()]));
  for (const { seat, partition } of claims) claimants.get(partition)?.add(seat);
  const count = (seat: Seat): number => held.get(seat)?.length ?? 0;
  for (const contested of [false, true]) {
    for (const [partition, claiming] of claimants) {
      if (claiming.size === 0 || claiming.size > 1 !== contested) continue;
      const fewest = [...claiming].reduce((a, b) => (count(b) < count(a) ? b : a));
      push(held, fewest, partition);
    }
  }
  return held;
}

function heldOf(topic: SharedTopic, seat: Seat): readonly number[] {
  return topic.held.get(seat) ?? [];
}

function holders(topic: SharedTopic): Seat[] {
  return [...topic.held.keys()].filter((seat) => holdsMore(topic, seat));
}

function othersThan(some: ReadonlySet<Seat>, seats: readonly Seat[]): Seat[] {
  return seats.filter((seat) => !some.has(seat));
}

/** More than everybody's share: rounded up it can keep one more. */
function holdsMore(topic: SharedTopic, seat: Seat): boolean {
  return heldOf(topic, seat).length > topic.share;
}

/** As many of these as may, those first who get least. */
function roundUp(topic: SharedTopic, seats: readonly Seat[]): void {
  const least = seats.toSorted((a, b) => a.total - b.total);
  for (const seat of least.slice(0, topic.spare - topic.roundedUp.size)) {
    topic.roundedUp.add(seat);
    seat.total++;
  }
}

/**
 * Those who get most pass on what was rounded up until these, who subscribe to the same, differ by one at most: first what saves a
 * move, then what costs none, at last what costs one.
 */
function level(seats: readonly Seat[]): void {
  const anyone = (): boolean => true;
  const noHolder: Chooses = (topic, seat) => !holdsMore(topic, seat);
  for (const [gives, takes] of [
    [noHolder, holdsMore],
    [noHolder, anyone],
    [anyone, holdsMore],
    [anyone, anyone],
  ] as const) {
    for (let passed = true; passed && !isLevel(seats);) {
      passed = false;
      for (const topic of seats[0]!.topics) while (passOn(topic, seats, gives, takes)) passed = true;
    }
  }
}

function isLevel(seats: readonly Seat[]): boolean {
  const totals = seats.map(({ total }) => total);
  return Math.max(...totals) - Math.min(...totals) <= 1;
}

type Chooses = (topic: SharedTopic, seat: Seat) => boolean;

/** False if none of those who give gets two more than one of those who take. */
function passOn(topic: SharedTopic, seats: readonly Seat[], gives: Chooses, takes: Chooses): boolean {
  let most: Seat | undefined;
  let least: Seat | undefined;
  for (const seat of seats) {
    if (topic.roundedUp.has(seat)) {
      if (gives(topic, seat) && (most === undefined || seat.total > most.total)) most = seat;
    } else if (takes(topic, seat) && (least === undefined || seat.total < least.total)) least = seat;
  }
  if (most === undefined || least === undefined || most.total - least.total < 2) return false;
  topic.roundedUp.delete(most);
  topic.roundedUp.add(least);
  most.total--;
  least.total++;
  return true;
}

function deal(topic: SharedTopic): void {
  const seats = topic.share === 0 ? [...topic.roundedUp] : topic.seats;
  const hands = new Map(seats.map((seat) => [seat, keep(topic, seat)]));
  const kept = new Set([...hands.values()].flat());
  const free = topic.partitions.filter((partition) => !kept.has(partition));
  const takers = seats.toSorted((a, b) => a.firsts - b.firsts);
  for (let round = 0; round <= topic.share; round++) {
    for (const seat of takers.filter((seat) => hands.get(seat)!.length < shareOf(topic, seat))) {
      hands.get(seat)!.push(free.shift()!);
    }
  }
  for (const [seat, hand] of hands) {
    if (hand.includes(topic.partitions[0]!)) seat.firsts++;
    seat.gets.push(...hand.toSorted((a, b) => a - b).map((partition) => ({ topic: topic.topic, partition })));
  }
}

/** What it may keep; if not all, from another place on each time, or the first in the group would keep all first partitions. */
function keep(topic: SharedTopic, seat: Seat): number[] {
  const held = heldOf(topic, seat);
  const share = shareOf(topic, seat);
  if (held.length <= share) return [...held];
  const start = seat.cuts++ % held.length;
  return [...held.slice(start), ...held.slice(0, start)].slice(0, share);
}

function shareOf(topic: SharedTopic, seat: Seat): number {
  return topic.share + (topic.roundedUp.has(seat) ? 1 : 0);
}

function groupBySubscription(seats: readonly Seat[]): Iterable<Seat[]> {
  const groups = new Map<string, Seat[]>();
  for (const seat of seats) push(groups, JSON.stringify(seat.topics.map(({ topic }) => topic)), seat);
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

/** The group protocol's user data travels with every join; a group of thousands of partitions must not make it heavy. */
const maxHeldBytes = 64_000;

/** For the group's leader: as JSON, e.g. `{"orders":[0,1]}`. At most 64 kB; what does not fit is left out. */
export function encodeHeld(held: readonly TopicPartition[]): Buffer {
  const topics = new Map<string, number[]>();
  let bytes = 2;
  for (const { topic, partition } of held) {
    const partitions = topics.get(topic);
    const text = partitions === undefined ? `${JSON.stringify(topic)}:[${partition}],` : `,${partition}`;
    bytes += Buffer.byteLength(text);
    if (bytes > maxHeldBytes) break;
    if (partitions === undefined) topics.set(topic, [partition]);
    else partitions.push(partition);
  }
  return Buffer.from(JSON.stringify(Object.fromEntries(topics)));
}

/** Nothing where the bytes are another assigner's, or not sound throughout. */
export function decodeHeld(userData: Buffer | undefined): readonly TopicPartition[] {
  const topics = userData === undefined || userData.length > maxHeldBytes ? undefined : parse(userData);
  if (!isHeld(topics)) return [];
  return Object.entries(topics).flatMap(([topic, partitions]) =>
    partitions.map((partition) => ({ topic, partition })),
  );
}

function parse(json: Buffer): unknown {
  try {
    return JSON.parse(json.toString());
  } catch {
    return undefined;
  }
}

function isHeld(value: unknown): value is Readonly<Record<string, readonly number[]>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((list: unknown) => Array.isArray(list) && list.every(isPartition));
}

function isPartition(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
