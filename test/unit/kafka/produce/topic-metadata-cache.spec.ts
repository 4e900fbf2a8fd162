import { describe, expect, it } from 'vitest';
import { KafkaClientError } from '../../../../lib/kafka/client/client.js';
import { TopicMetadataCache } from '../../../../lib/kafka/produce/topic-metadata-cache.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { newGate, settle, type Gate } from '../../core/harness.js';

/** A directory whose questions wait for the test's answers. */
function newBench() {
  const questions: { topic: string; gate: Gate<ReadonlyMap<string, number>> }[] = [];
  const clock = new VirtualClock();
  const directory = new TopicMetadataCache(
    {
      partitionCounts(topics) {
        const gate = newGate<ReadonlyMap<string, number>>();
        questions.push({ topic: topics.join(), gate });
        return gate.promise;
      },
    },
    clock,
  );
  const answer = async (partitions?: number): Promise<void> => {
    const { topic, gate } = questions.shift()!;
    gate.open(new Map(partitions === undefined ? [] : [[topic, partitions]]));
    await settle();
  };
  const know = async (topic: string, partitions?: number): Promise<void> => {
    const asked = directory.partitions(topic);
    await answer(partitions);
    await asked;
  };
  return { questions, clock, directory, answer, know };
}

describe('TopicMetadataCache', () => {
  it('asks at once for a topic that it does not know, once for all who want to know', async () => {
    const { questions, directory, answer } = newBench();
    expect(directory.known('t')).toBeUndefined();
    const asked = [directory.partitions('t'), directory.partitions('t'), directory.exists('t')];
    expect(questions.map(({ topic }) => topic)).toEqual(['t']);
    await answer(3);
    expect(await Promise.all(asked)).toEqual([3, 3, true]);
    expect([directory.known('t'), await directory.partitions('t')]).toEqual([3, 3]);
    expect(questions).toEqual([]);
  });

  it('remembers for a second that a topic is missing', async () => {
    const { questions, clock, directory, answer, know } = newBench();
    await know('t');
    await clock.advance(999);
    expect([await directory.partitions('t'), await directory.exists('t')]).toEqual([undefined, false]);
    expect(questions).toEqual([]);
    await clock.advance(1);
    const asked = directory.partitions('t');
    await answer(2);
    expect(await asked).toBe(2);
  });

  it('asks again beside after a minute, and answers from memory meanwhile', async () => {
    const { questions, clock, directory, answer, know } = newBench();
    await know('t', 3);
    await clock.advance(59_999);
    expect([directory.known('t'), questions.length]).toEqual([3, 0]);
    await clock.advance(1);
    expect([directory.known('t'), directory.known('t'), questions.length]).toEqual([3, 3, 1]);
    await answer(5);
    expect(directory.known('t')).toBe(5);
  });

  it('keeps what it knows where asking again fails, and forgets a topic that is gone', async () => {
    const { questions, clock, directory, answer, know } = newBench();
    await know('t', 3);
    await clock.advance(60_000);
    directory.known('t');
    questions.shift()!.gate.fail(new KafkaClientError('unavailable', 'no broker'));
    await settle();
    expect(directory.known('t')).toBe(3);
    await clock.advance(60_000);
    directory.known('t');
    await answer();
    expect(directory.known('t')).toBeUndefined();
  });

  it('passes a failure on to all who asked, and asks again for the next', async () => {
    const { questions, directory, answer } = newBench();
    const asked = [directory.partitions('t'), directory.exists('t')];
    questions.shift()!.gate.fail(new KafkaClientError('unavailable', 'no broker'));
    const outcomes = await Promise.allSettled(asked);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    const again = directory.partitions('t');
    await answer(1);
    expect(await again).toBe(1);
  });

  it('takes a client that rejects for a missing topic at its word', async () => {
    const { questions, directory } = newBench();
    const asked = directory.partitions('t');
    questions.shift()!.gate.fail(new KafkaClientError('unknown-topic', 'no such topic'));
    expect(await asked).toBeUndefined();
  });

  it('forgets: the next question is asked, and an older answer is not kept', async () => {
    const { questions, directory, answer, know } = newBench();
    await know('t', 3);
    directory.forget('t');
    const early = directory.partitions('t');
    directory.forget('t');
    const late = directory.partitions('t');
    expect(questions).toHaveLength(2);
    await answer(3);
    expect([await early, directory.known('t')]).toEqual([3, undefined]);
    await answer();
    expect([await late, directory.known('t')]).toEqual([undefined, undefined]);
  });

  it('asks anew where what it knows is not enough, at most once a second', async () => {
    const { questions, clock, directory, answer, know } = newBench();
    await know('t', 3);
    expect([await directory.refreshed('t'), questions.length]).toEqual([3, 0]);
    await clock.advance(1_000);
    const asked = directory.refreshed('t');
    await answer(4);
    expect(await asked).toBe(4);
  });

  it('does not ask for what no topic can be named', async () => {
    const { questions, directory } = newBench();
    for (const name of ['a b', '', '..', 'x'.repeat(250)]) expect(await directory.exists(name)).toBe(false);
    expect(questions).toEqual([]);
  });
});
