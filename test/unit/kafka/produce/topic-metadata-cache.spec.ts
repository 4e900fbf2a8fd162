import { describe, expect, it } from 'vitest';
import { KafkaClientError } from '../../../../lib/kafka/client/client.js';
import { TopicMetadataCache } from '../../../../lib/kafka/produce/topic-metadata-cache.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { newGate, settle, type Gate } from '../../core/harness.js';

/** A cache whose metadata requests wait for the test's responses. */
function newBench() {
  const requests: { topic: string; gate: Gate<ReadonlyMap<string, number>> }[] = [];
  const clock = new VirtualClock();
  const cache = new TopicMetadataCache(
    {
      partitionCounts(topics) {
        const gate = newGate<ReadonlyMap<string, number>>();
        requests.push({ topic: topics.join(), gate });
        return gate.promise;
      },
    },
    clock,
  );
  const answer = async (partitions?: number): Promise<void> => {
    const { topic, gate } = requests.shift()!;
    gate.open(new Map(partitions === undefined ? [] : [[topic, partitions]]));
    await settle();
  };
  const know = async (topic: string, partitions?: number): Promise<void> => {
    const asked = cache.partitionCount(topic);
    await answer(partitions);
    await asked;
  };
  return { requests, clock, cache, answer, know };
}

describe('TopicMetadataCache', () => {
  it('fetches an unknown topic at once, with one request for all callers', async () => {
    const { requests, cache, answer } = newBench();
    expect(cache.cachedPartitionCount('t')).toBeUndefined();
    const asked = [cache.partitionCount('t'), cache.partitionCount('t'), cache.exists('t')];
    expect(requests.map(({ topic }) => topic)).toEqual(['t']);
    await answer(3);
    expect(await Promise.all(asked)).toEqual([3, 3, true]);
    expect([cache.cachedPartitionCount('t'), await cache.partitionCount('t')]).toEqual([3, 3]);
    expect(requests).toEqual([]);
  });

  it('caches for a second that a topic is missing', async () => {
    const { requests, clock, cache, answer, know } = newBench();
    await know('t');
    await clock.advance(999);
    expect([await cache.partitionCount('t'), await cache.exists('t')]).toEqual([undefined, false]);
    expect(requests).toEqual([]);
    await clock.advance(1);
    const asked = cache.partitionCount('t');
    await answer(2);
    expect(await asked).toBe(2);
  });

  it('refreshes in the background after a minute, and returns the cached count meanwhile', async () => {
    const { requests, clock, cache, answer, know } = newBench();
    await know('t', 3);
    await clock.advance(59_999);
    expect([cache.cachedPartitionCount('t'), requests.length]).toEqual([3, 0]);
    await clock.advance(1);
    expect([cache.cachedPartitionCount('t'), cache.cachedPartitionCount('t'), requests.length]).toEqual([
      3, 3, 1,
    ]);
    await answer(5);
    expect(cache.cachedPartitionCount('t')).toBe(5);
  });

  it('keeps the cached count if a refresh fails, and drops a topic that was deleted', async () => {
    const { requests, clock, cache, answer, know } = newBench();
    await know('t', 3);
    await clock.advance(60_000);
    cache.cachedPartitionCount('t');
    requests.shift()!.gate.fail(new KafkaClientError('unavailable', 'no broker'));
    await settle();
    expect(cache.cachedPartitionCount('t')).toBe(3);
    await clock.advance(60_000);
    cache.cachedPartitionCount('t');
    await answer();
    expect(cache.cachedPartitionCount('t')).toBeUndefined();
  });

  it('rejects all callers of a failed request, and sends a new one for the next caller', async () => {
    const { requests, cache, answer } = newBench();
    const asked = [cache.partitionCount('t'), cache.exists('t')];
    requests.shift()!.gate.fail(new KafkaClientError('unavailable', 'no broker'));
    const outcomes = await Promise.allSettled(asked);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    const again = cache.partitionCount('t');
    await answer(1);
    expect(await again).toBe(1);
  });

  it('treats an unknown-topic error as a missing topic', async () => {
    const { requests, cache } = newBench();
    const asked = cache.partitionCount('t');
    requests.shift()!.gate.fail(new KafkaClientError('unknown-topic', 'no such topic'));
    expect(await asked).toBeUndefined();
  });

  it('forgets: the next call sends a request, and the response of an older one is not cached', async () => {
    const { requests, cache, answer, know } = newBench();
    await know('t', 3);
    cache.forget('t');
    const early = cache.partitionCount('t');
    cache.forget('t');
    const late = cache.partitionCount('t');
    expect(requests).toHaveLength(2);
    await answer(3);
    expect([await early, cache.cachedPartitionCount('t')]).toEqual([3, undefined]);
    await answer();
    expect([await late, cache.cachedPartitionCount('t')]).toEqual([undefined, undefined]);
  });

  it('fetches the current count at most once a second', async () => {
    const { requests, clock, cache, answer, know } = newBench();
    await know('t', 3);
    expect([await cache.currentPartitionCount('t'), requests.length]).toEqual([3, 0]);
    await clock.advance(1_000);
    const asked = cache.currentPartitionCount('t');
    await answer(4);
    expect(await asked).toBe(4);
  });

  it('sends no request for an illegal topic name', async () => {
    const { requests, cache } = newBench();
    for (const name of ['a b', '', '..', 'x'.repeat(250)]) expect(await cache.exists(name)).toBe(false);
    expect(requests).toEqual([]);
  });
});
