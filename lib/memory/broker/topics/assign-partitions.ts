/** A member's partitions of one topic. */
export type Shares<M> = ReadonlyMap<M, readonly number[]>;

/**
 * Assigns each partition of one topic to one member; the counts differ by at most 1. A partition stays
 * with its owner as long as the counts stay even. `load` is the number of partitions that a member has of
 * other topics: of members with equally many partitions of this topic, the least loaded gets one more.
 */
export function assignPartitions<M>(
  partitionCount: number,
  members: readonly M[],
  ownerOf: (partition: number) => M | undefined,
  load: (member: M) => number,
): Shares<M> {
  const shares = new Map<M, number[]>(members.map((member) => [member, []]));
  if (members.length === 0) return shares;
  const unowned: number[] = [];
  for (let partition = 0; partition < partitionCount; partition++) {
    const owner = ownerOf(partition);
    const share = owner === undefined ? undefined : shares.get(owner);
    (share ?? unowned).push(partition);
  }
  const base = Math.floor(partitionCount / members.length);
  const withOneMore = partitionCount % members.length;
  // Members with the most partitions keep one more, which moves the fewest partitions.
  const byShareSize = members.toSorted(
    (a, b) => shares.get(b)!.length - shares.get(a)!.length || load(a) - load(b),
  );
  const quota = (rank: number): number => (rank < withOneMore ? base + 1 : base);
  byShareSize.forEach((member, rank) => unowned.push(...shares.get(member)!.splice(quota(rank))));
  unowned.sort((a, b) => a - b);
  byShareSize.forEach((member, rank) => {
    const share = shares.get(member)!;
    share.push(...unowned.splice(0, quota(rank) - share.length));
  });
  return shares;
}
