/** A member's partitions of one topic. */
export type Shares<M> = ReadonlyMap<M, readonly number[]>;

/**
 * Gives each partition of one topic to one member, counts differing by at most 1. A partition stays with its owner as long as that
 * keeps the counts even. `load` is what a member has of other topics: of those with an equal claim, the least loaded gets one more.
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
  // Who has most may keep one more: that moves the fewest.
  const byClaim = members.toSorted(
    (a, b) => shares.get(b)!.length - shares.get(a)!.length || load(a) - load(b),
  );
  const quota = (rank: number): number => (rank < withOneMore ? base + 1 : base);
  byClaim.forEach((member, rank) => unowned.push(...shares.get(member)!.splice(quota(rank))));
  unowned.sort((a, b) => a - b);
  byClaim.forEach((member, rank) => {
    const share = shares.get(member)!;
    share.push(...unowned.splice(0, quota(rank) - share.length));
  });
  return shares;
}
