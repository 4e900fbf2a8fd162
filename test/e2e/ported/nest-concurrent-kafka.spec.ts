import { Controller } from '@nestjs/common';
import { MessagePattern, Payload } from '@nestjs/microservices';
import { defer, lastValueFrom, map, Subject, take, type Observable } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kafka } from 'nestjs-stork/kafka';
import { eventually, Seen } from '../../contract/app.js';
import { brokers, reconnect, useForeign } from '../kafka/kafka-app.js';
import { startHybrid, sumOf, uniqueSource, type Hybrid } from './support.js';

const topic = uniqueSource();
const members = [0, 1, 2];
const waiting = new Seen<number>();
const go = new Subject<void>();

@Controller()
class Waiting {
  @MessagePattern<string>(topic)
  sum(@Payload() numbers: readonly number[]): Observable<number> {
    return defer(() => {
      waiting.add(sumOf(numbers));
      return go.pipe(
        take(1),
        map(() => sumOf(numbers)),
      );
    });
  }
}

describe.skipIf(brokers === undefined)('Nest: three applications of one Kafka group', () => {
  const foreign = useForeign();
  let hybrids: readonly Hybrid[];

  /** Each of them sends to the partition of its number; resolves once all these requests are being handled. */
  async function sendFrom(senders: readonly number[]): Promise<() => Promise<readonly number[]>> {
    const before = waiting.all.length;
    const replies = Promise.all(
      senders.map((i) =>
        lastValueFrom(
          hybrids[i]!.client().send<number>(topic, { key: String(i), value: [1, i], partition: i }),
        ),
      ),
    );
    // Awaited by the caller, who does not call back if the requests do not arrive.
    replies.catch(() => {});
    await waiting.count(before + senders.length);
    return () => {
      go.next();
      return replies;
    };
  }

  beforeAll(async () => {
    await Promise.all([foreign().topic(topic, 3), foreign().topic(`${topic}.reply`, 3)]);
    const main = kafka({ brokers, groupId: topic, concurrency: 3, fromBeginning: true, reconnect });
    hybrids = await Promise.all(
      members.map(() => startHybrid({ stork: { transports: { main } }, controllers: [Waiting] })),
    );
  });
  afterAll(() => Promise.all(hybrids.map(({ app }) => app.close())));

  it('the topics have a partition for each application', async () => {
    const { topics } = await foreign().admin.fetchTopicMetadata({ topics: [topic, `${topic}.reply`] });
    expect(topics.map(({ partitions }) => partitions.length)).toEqual([3, 3]);
  });

  it('all three become members of the group', async () => {
    const group = await eventually(async () => {
      const { groups } = await foreign().admin.describeGroups([topic]);
      return groups[0]?.state === 'Stable' && groups[0].members.length === 3 ? groups[0] : undefined;
    }, 'three members');
    expect(group.members).toHaveLength(3);
  });

  it('concurrent requests get their own replies', async () => {
    const finish = await sendFrom(members);
    expect(await finish()).toEqual([1, 2, 3]);
  });

  it('a client that is closed meanwhile does not disturb the requests of the others', async () => {
    const finish = await sendFrom([1, 2]);
    hybrids[0]!.client().close();
    expect(await finish()).toEqual([2, 3]);
  });

  it('a client that connects again meanwhile does not disturb them either, and sends again', async () => {
    const finish = await sendFrom([1, 2]);
    await hybrids[0]!.client().connect();
    expect(await finish()).toEqual([2, 3]);
    const again = await sendFrom(members);
    expect(await again()).toEqual([1, 2, 3]);
  });
});
