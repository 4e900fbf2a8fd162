import kafkajs, { type Assigner } from 'kafkajs';
import { decodeOwnedPartitions, encodeOwnedPartitions } from '../consume/member-user-data.js';
import type { AssignPartitions, GroupMember, KafkaAdmin, TopicPartition } from '../client/client.js';
import { partitionsByTopic } from './group-by-topic.js';

/** Members of kafkajs and Nest use this name; only members with the same name can share a group. */
const name = 'RoundRobinAssigner';
const version = 0;

/**
 * A kafkajs assigner that divides partitions by `assign`, with each member's own subscription. kafkajs's
 * assigner divides the leader's topics among all members: in a rolling deploy, partitions of new topics
 * would stay unread.
 *
 * @param ownedPartitions what this member reports to have owned before the join
 */
export function newAssigner(
  assign: AssignPartitions,
  admin: Pick<KafkaAdmin, 'partitionCounts'>,
  ownedPartitions: () => readonly TopicPartition[],
): Assigner {
  const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol;
  return {
    name,
    version,
    protocol: ({ topics }) => ({
      name,
      metadata: MemberMetadata.encode({
        version,
        topics,
        userData: encodeOwnedPartitions(ownedPartitions()),
      }),
    }),
    assign: async ({ members }) => {
      const subscriptions: GroupMember[] = members.map(({ memberId, memberMetadata }) => {
        const { topics, userData } = MemberMetadata.decode(memberMetadata)!;
        return { id: memberId, topics, ownedPartitions: decodeOwnedPartitions(userData) };
      });
      const topics = [...new Set(subscriptions.flatMap((member) => member.topics))];
      const counts = await partitionCounts(admin, topics);
      const partitionsOf = (topic: string): number[] =>
        Array.from({ length: counts.get(topic) ?? 0 }, (_, partition) => partition);
      const assignment = assign(subscriptions, partitionsOf);
      return members.map(({ memberId }) => ({
        memberId,
        memberAssignment: MemberAssignment.encode({
          version,
          assignment: Object.fromEntries(
            partitionsByTopic(assignment.get(memberId) ?? []).map(({ topic, partitions }) => [
              topic,
              partitions,
            ]),
          ),
          userData: Buffer.alloc(0),
        }),
      }));
    },
  };
}

/**
 * After a failure requests each topic by itself: the ACL of one member's topic must not stop the whole group.
 */
async function partitionCounts(
  admin: Pick<KafkaAdmin, 'partitionCounts'>,
  topics: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  try {
    return await admin.partitionCounts(topics);
  } catch {
    const counts = await Promise.all(
      topics.map((topic) => admin.partitionCounts([topic]).catch(() => new Map<string, number>())),
    );
    return new Map(counts.flatMap((found) => [...found]));
  }
}
