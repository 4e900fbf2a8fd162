import { describe, expect, it } from 'vitest';
import { KafkaClientError } from '../../../../lib/kafka/client/client.js';
import { noteWhenDone, settle } from '../../core/harness.js';
import { newProducerBench, newRecord, type FakeSend } from '../producer-harness.js';

const valuesOf = (sends: readonly FakeSend[]): string[][] => sends.map(({ values }) => values);
const idempotent = { settings: { acks: 'all', idempotent: true, compression: 'none' } } as const;
const [idle, closed] = [{ value: 'idle' }, { value: 'closed' }];

/** A bench whose topic is known and whose producer is open. */
async function newReadyBench(fields: Parameters<typeof newProducerBench>[0] = {}) {
  const bench = newProducerBench(fields);
  await Promise.all([bench.producer.open(), bench.topics.partitionCount('t')]);
  return bench;
}

describe('Producer: batches', () => {
  it('confirms a record when the broker confirms it, and not before', async () => {
    const { kafka, outcomes, publish, producer } = newProducerBench();
    publish('a', 0);
    await settle();
    expect([valuesOf(kafka.sends), outcomes.size, producer.buffered.messages]).toEqual([[['a']], 0, 1]);
    kafka.sends[0]!.confirm();
    await settle();
    expect(outcomes).toEqual(new Map([['a', 'ok']]));
    expect(producer.buffered).toEqual({ messages: 0, bytes: 0 });
  });

  it('sends records of the same tick in one request, at once', async () => {
    const { kafka, publish } = await newReadyBench();
    for (const value of ['a', 'b', 'c']) publish(value, 1);
    expect(kafka.sends).toEqual([]);
    await Promise.resolve();
    expect(kafka.sends).toMatchObject([{ topic: 't', partition: 1, values: ['a', 'b', 'c'] }]);
  });

  it('sends records that arrive while a request is in flight in the next one; other partitions do not wait', async () => {
    const { kafka, publish } = await newReadyBench();
    publish('a', 0);
    await settle();
    publish('b', 0);
    publish('x', 1);
    await settle();
    publish('c', 0);
    await settle();
    expect(valuesOf(kafka.sends)).toEqual([['a'], ['x']]);
    kafka.sends[0]!.confirm();
    await settle();
    expect(valuesOf(kafka.sends)).toEqual([['a'], ['x'], ['b', 'c']]);
  });

  it('sends at most 1 000 records per request', async () => {
    const { kafka, publish } = await newReadyBench();
    for (let i = 0; i < 2_500; i++) publish(`${i}`, 0);
    for (const count of [1_000, 1_000, 500]) {
      await settle();
      expect(kafka.open.map(({ records }) => records.length)).toEqual([count]);
      kafka.open[0]!.confirm();
    }
  });

  it('sends at most maxBatchBytes per request, and a larger record in a request of its own', async () => {
    const { kafka, publish } = await newReadyBench({ maxBatchBytes: 1_000 });
    for (const size of [400, 400, 400, 5_000, 10]) publish('x'.repeat(size), 0);
    const lengths: number[][] = [];
    for (let i = 0; i < 4; i++) {
      await settle();
      lengths.push(kafka.open[0]!.values.map(({ length }) => length));
      kafka.open[0]!.confirm();
    }
    expect(lengths).toEqual([[400, 400], [400], [5_000], [10]]);
  });
});

describe('Producer: partitions', () => {
  it('chooses the partition of a key like the Java client', async () => {
    const { kafka, publish } = await newReadyBench();
    for (const key of ['21', 'foobar', '']) publish(`of ${key}`, undefined, 't', key);
    await settle();
    const partitionByValue = Object.fromEntries(
      kafka.sends.flatMap(({ values, partition }) => values.map((v) => [v, partition])),
    );
    expect(partitionByValue).toMatchObject({
      'of 21': (-973932308 & 0x7fffffff) % 3,
      'of foobar': (-790332482 & 0x7fffffff) % 3,
    });
  });

  it('writes records without a key to a sticky partition, which changes every 16 KiB', async () => {
    const { kafka, publish } = await newReadyBench();
    const places: number[] = [];
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 5; i++) publish(`${round}/${i}/${'x'.repeat(1_700)}`);
      await settle();
      expect(kafka.open).toHaveLength(1);
      places.push(kafka.open[0]!.partition);
      kafka.open[0]!.confirm();
      await settle();
    }
    expect(places).toEqual([2, 2, 0, 0, 1, 1]);
  });

  it('moves the sticky partition away from an unavailable one', async () => {
    const { kafka, outcomes, publish, clock } = await newReadyBench();
    kafka.onSend = (send) => (send.partition === 1 ? send.fail('unavailable') : send.confirm());
    for (let i = 0; i < 30; i++) {
      publish(`${i}/${'x'.repeat(16_384)}`);
      await settle();
    }
    // Only the record that was sent to the unavailable partition is pending.
    expect(outcomes.size).toBe(29);
    kafka.onSend = (send) => send.confirm();
    await clock.advance(1_000);
    expect(outcomes.size).toBe(30);
  });

  it('uses the user’s partitioner, and rejects only records for which it returns no partition', async () => {
    const { kafka, outcomes, publish } = await newReadyBench({
      partitioner: ({ key }) => Number(key),
    });
    publish('a', undefined, 't', '2');
    publish('b', undefined, 't', '7');
    publish('c', 0, 't', '2');
    await settle();
    expect(kafka.sends).toMatchObject([{ partition: 2 }, { partition: 0 }]);
    expect([...outcomes.values()]).toEqual([
      'StorkConfigError: partitioner, for a message to "t": expected an integer from 0 to 2, given 7',
    ]);
  });

  it('rejects a partition that does not exist and reports the partition count', async () => {
    const { outcomes, publish, producer } = newProducerBench();
    for (const partition of [3, -1, 0.5]) publish(`${partition}`, partition);
    await settle();
    expect(Object.fromEntries(outcomes)).toEqual({
      '3': 'NoRouteError: the topic "t" has no partition 3, only 3',
      '-1': 'NoRouteError: the topic "t" has no partition -1, only 3',
      '0.5': 'NoRouteError: the topic "t" has no partition 0.5, only 3',
    });
    expect(producer.buffered).toEqual({ messages: 0, bytes: 0 });
  });

  it('refreshes the metadata for a partition beyond the cached count', async () => {
    const { kafka, clock, outcomes, publish } = await newReadyBench();
    await clock.advance(1_000);
    kafka.topics.set('t', 4);
    publish('a', 3);
    publish('b', 3);
    await settle();
    expect(kafka.sends).toMatchObject([{ partition: 3, values: ['a', 'b'] }]);
    await clock.advance(1_000);
    kafka.metadataFailures.push('unavailable');
    publish('c', 4);
    await settle();
    expect(outcomes.get('c')).toBe('NoRouteError: the topic "t" has no partition 4, only 4');
  });
});

describe('Producer: topics', () => {
  it('rejects a record to a topic that does not exist, and keeps nothing of it', async () => {
    const { outcomes, publish, producer } = newProducerBench();
    publish('a', undefined, 'none');
    await settle();
    expect(outcomes.get('a')).toBe('NoRouteError: there is no topic "none"');
    expect(producer.buffered.messages).toBe(0);
  });

  it('keeps the order of records that arrive before the metadata', async () => {
    const { kafka, publish, clock } = newProducerBench();
    kafka.metadataFailures.push('unavailable');
    publish('a', 0);
    await settle();
    publish('b', 0);
    await clock.advance(100);
    expect(valuesOf(kafka.sends)).toEqual([['a', 'b']]);
  });

  it('keeps the order of records that arrive in the tick of the metadata', async () => {
    const { kafka, publish, producer } = newProducerBench();
    await producer.open();
    const values = Array.from({ length: 12 }, (_, i) => `${i}`);
    kafka.onSend = (send) => send.confirm();
    for (const value of values) {
      publish(value, 0);
      await Promise.resolve();
    }
    await settle();
    expect(kafka.sends.flatMap((send) => send.values)).toEqual(values);
  });

  it('rejects if the broker refuses to describe the topic', async () => {
    const { kafka, outcomes, publish } = newProducerBench();
    kafka.metadataFailures.push('refused');
    publish('a');
    await settle();
    expect(outcomes.get('a')).toBe(
      'PublishRejectedError: the broker refused to describe the topic "t": no answer: refused',
    );
  });

  it('rejects records to a deleted topic, drops its metadata, and replaces the producer that would keep waiting for it', async () => {
    const { kafka, topics, outcomes, publish } = await newReadyBench();
    kafka.topics.set('other', 1);
    publish('a', 0);
    publish('x', 0, 'other');
    publish('b', 1);
    await settle();
    publish('c', 0);
    kafka.sends[0]!.fail('unknown-topic');
    await settle();
    const why = 'NoRouteError: the topic "t" or its partition 0 does not exist any more';
    expect(Object.fromEntries(outcomes)).toEqual({ a: why, c: why });
    expect(topics.cachedPartitionCount('t')).toBeUndefined();
    expect(kafka.producers.map(({ isClosed }) => isClosed)).toEqual([false, false]);
    publish('y', 0, 'other');
    for (const send of kafka.open) send.confirm();
    await settle();
    expect(kafka.open).toMatchObject([{ values: ['y'], producer: { id: 1 } }]);
    expect(kafka.producers.map(({ isClosed }) => isClosed)).toEqual([true, false]);
    expect([outcomes.get('b'), outcomes.get('x')]).toEqual(['ok', 'ok']);
  });
});

describe('Producer: failures', () => {
  it.each([
    [
      'refused',
      'PublishRejectedError: the broker refused records sent to partition 0 of "t": the broker: refused',
    ],
    [
      'unsupported-codec',
      'PublishRejectedError: the broker refused records sent to partition 0 of "t": the broker: unsupported-codec',
    ],
    [
      'unconfirmed',
      'PublishUnconfirmedError: records sent to partition 0 of "t" were not confirmed: the broker: unconfirmed',
    ],
  ] as const)('%s: rejects the batch with its own error and continues', async (failure, why) => {
    const { kafka, outcomes, publish } = await newReadyBench();
    publish('a', 0);
    publish('b', 0);
    await settle();
    publish('c', 0);
    kafka.sends[0]!.fail(failure);
    await settle();
    kafka.open[0]!.confirm();
    await settle();
    expect(Object.fromEntries(outcomes)).toEqual({ a: why, b: why, c: 'ok' });
    expect(kafka.producers).toHaveLength(1);
  });

  it('treats an error that the client did not classify as an unknown outcome', async () => {
    const { kafka, outcomes, publish } = await newReadyBench();
    publish('a', 0);
    await settle();
    kafka.sends[0]!.fail(new TypeError('of undefined'));
    await settle();
    expect(outcomes.get('a')).toMatch(/^PublishUnconfirmedError: .*of undefined$/);
  });

  it('too-large: rejects only the record that exceeds the limit, and sends the others in order', async () => {
    const { kafka, outcomes, publish } = await newReadyBench();
    const written: string[] = [];
    kafka.onSend = (send) => {
      if (send.values.includes('D')) return send.fail('too-large');
      written.push(...send.values);
      send.confirm();
    };
    for (const value of 'abcDefgh') publish(value, 0);
    await settle();
    expect(written).toEqual([...'abcefgh']);
    expect(outcomes.get('D')).toBe(
      'MessageTooLargeError: a message of about 33 bytes exceeds the size limit of partition 0 of "t": the broker: too-large',
    );
    expect(outcomes.size).toBe(8);
  });

  it('unavailable: retries with a growing back-off in order, and logs it', async () => {
    const { kafka, clock, logger, outcomes, publish, producer } = await newReadyBench();
    const states: unknown[] = [];
    producer.state.changes.subscribe((state) => states.push(state));
    publish('a', 0);
    await settle();
    publish('b', 0);
    kafka.sends[0]!.fail('unavailable');
    await settle();
    publish('x', 1);
    await settle();
    kafka.open[0]!.confirm();
    await clock.advance(99);
    expect(valuesOf(kafka.open)).toEqual([]);
    await clock.advance(1);
    expect(valuesOf(kafka.open)).toEqual([['a', 'b']]);
    kafka.open[0]!.fail('unavailable');
    await clock.advance(199);
    expect(valuesOf(kafka.open)).toEqual([]);
    await clock.advance(1);
    kafka.open[0]!.confirm();
    await settle();
    expect(Object.fromEntries(outcomes)).toEqual({ x: 'ok', a: 'ok', b: 'ok' });
    expect(states).toMatchObject([
      { value: 'ready' },
      { value: 'backoff', attempt: 1, delayMs: 100, error: { failure: 'unavailable' } },
      { value: 'backoff', attempt: 2, delayMs: 200 },
      { value: 'ready' },
    ]);
    expect(logger.lines).toEqual([
      'warn billing: the broker: unavailable; retrying',
      'log billing: recovered',
    ]);
  });

  it('is ready again when all partitions have recovered, not the first of them', async () => {
    const { kafka, clock, logger, publish, producer } = await newReadyBench();
    kafka.onSend = (send) => send.fail('unavailable');
    publish('a', 0);
    publish('b', 1);
    await settle();
    kafka.onSend = (send) => (send.partition === 0 ? send.confirm() : send.fail('unavailable'));
    await clock.advance(100);
    expect(producer.state.current).toMatchObject({ value: 'backoff', attempt: 2 });
    kafka.onSend = (send) => send.confirm();
    await clock.advance(200);
    expect(producer.state.current.value).toBe('ready');
    expect(logger.lines).toHaveLength(2);
  });

  it('buffers records while no producer can be opened', async () => {
    const { kafka, clock, outcomes, publish, producer } = newProducerBench();
    kafka.openFailures.push('unavailable', 'unavailable');
    publish('a', 0);
    await settle();
    publish('b', 0);
    expect(producer.state.current).toMatchObject({ value: 'backoff', attempt: 1 });
    await clock.advance(300);
    expect(valuesOf(kafka.sends)).toEqual([['a', 'b']]);
    expect([producer.state.current.value, outcomes.size]).toEqual(['ready', 0]);
  });

  it('refuses a publish beyond maxBufferedMessages and accepts the next after a confirmation', async () => {
    const { kafka, outcomes, publish, producer } = await newReadyBench({ maxBufferedMessages: 2 });
    for (const value of ['a', 'b', 'c']) publish(value, 0);
    await settle();
    expect(outcomes.get('c')).toMatch(/^BufferFullError: billing: 2 messages with 66 bytes wait/);
    kafka.open[0]!.confirm();
    await settle();
    publish('d', 0);
    await settle();
    kafka.open[0]!.confirm();
    await settle();
    expect([outcomes.get('d'), producer.buffered.messages]).toEqual(['ok', 0]);
  });

  it('refuses a publish beyond maxBufferedBytes', async () => {
    const { outcomes, publish } = await newReadyBench({ maxBufferedBytes: 200 });
    publish('x'.repeat(100));
    publish('y'.repeat(100));
    await settle();
    expect([...outcomes.values()]).toEqual([expect.stringMatching(/^BufferFullError: .*132 bytes wait/)]);
  });
});

describe('Producer: opening', () => {
  it('opens before the first publish by open()', async () => {
    const { producer, kafka } = newProducerBench();
    expect(producer.state.current).toEqual(idle);
    const opened = producer.open();
    expect(producer.state.current).toEqual({ value: 'connecting' });
    await opened;
    expect([producer.state.current.value, kafka.producers.length]).toEqual(['ready', 1]);
  });

  it('rejects waiting callers if the broker refuses the first producer; the next publish tries again', async () => {
    const { producer, kafka, outcomes, publish } = newProducerBench();
    kafka.openFailures.push('refused', 'refused');
    await expect(producer.open()).rejects.toThrow(
      'billing: the broker refused to open a producer: no producer: refused',
    );
    publish('a', 0);
    await settle();
    expect(outcomes.get('a')).toMatch(
      /^PublishRejectedError: billing: the broker refused to open a producer/,
    );
    publish('b', 0);
    await settle();
    expect(valuesOf(kafka.open)).toEqual([['b']]);
  });

  it('keeps trying if the broker refuses a producer after a first success', async () => {
    const { kafka, clock, publish } = await newReadyBench(idempotent);
    publish('a', 0);
    await settle();
    publish('b', 0);
    kafka.openFailures.push('refused');
    kafka.open[0]!.fail('unconfirmed');
    await settle();
    expect(kafka.open).toEqual([]);
    await clock.advance(100);
    expect(valuesOf(kafka.open)).toEqual([['b']]);
  });
});

describe('Producer: idempotent', () => {
  it('retires the producer of a failed request: requests in flight are unconfirmed, queued records are sent by a new one', async () => {
    const { kafka, outcomes, publish } = await newReadyBench(idempotent);
    publish('a', 0);
    publish('b', 1);
    await settle();
    publish('c', 0);
    publish('d', 1);
    kafka.sends[0]!.fail('unconfirmed');
    await settle();
    expect(Object.fromEntries(outcomes)).toEqual({
      a: 'PublishUnconfirmedError: records sent to partition 0 of "t" were not confirmed: the broker: unconfirmed',
      b: 'PublishUnconfirmedError: another request of the same idempotent producer failed: the broker: unconfirmed',
    });
    // Partition 1 waits for the old request: the new one must not overtake it.
    expect(kafka.open).toMatchObject([
      { values: ['b'], producer: { id: 0 } },
      { values: ['c'], producer: { id: 1 } },
    ]);
    kafka.open[0]!.confirm();
    await settle();
    expect(kafka.open).toMatchObject([{ values: ['c'] }, { values: ['d'], producer: { id: 1 } }]);
    expect(kafka.producers.map(({ isClosed }) => isClosed)).toEqual([true, false]);
  });

  it('does not resend records that an earlier attempt of the client may have written', async () => {
    const { kafka, clock, outcomes, publish } = await newReadyBench(idempotent);
    publish('a', 0);
    await settle();
    publish('b', 0);
    kafka.sends[0]!.fail('unavailable');
    await settle();
    expect(outcomes.get('a')).toMatch(/^PublishUnconfirmedError: records sent to partition 0/);
    expect(kafka.open).toEqual([]);
    await clock.advance(100);
    expect(kafka.open).toMatchObject([{ values: ['b'], producer: { id: 1 } }]);
  });
});

describe('Producer: flush and close', () => {
  it('flushes: resolves for all callers when every record is rejected or confirmed', async () => {
    const { kafka, publish, producer } = await newReadyBench();
    await producer.flush();
    publish('a', 0);
    publish('b', 1);
    const flushes = [producer.flush(), producer.flush()].map(noteWhenDone);
    await settle();
    kafka.sends[0]!.fail('refused');
    await settle();
    expect(flushes.map(({ done }) => done)).toEqual([false, false]);
    kafka.sends[1]!.confirm();
    await settle();
    expect(flushes.map(({ done }) => done)).toEqual([true, true]);
  });

  it('closes: refuses new records at once, flushes, closes the client’s producer', async () => {
    const { kafka, clock, outcomes, publish, producer } = await newReadyBench();
    publish('a', 0);
    await settle();
    const closing = producer.close(1_000);
    expect(producer.close(5)).toBe(closing);
    publish('late', 0);
    await settle();
    expect([outcomes.get('late'), kafka.producers[0]!.isClosed]).toEqual([
      'ClientClosedError: billing: closed',
      false,
    ]);
    kafka.open[0]!.confirm();
    await closing;
    expect([outcomes.get('a'), kafka.producers[0]!.isClosed]).toEqual(['ok', true]);
    expect([producer.state.current, clock.pendingTimers]).toEqual([closed, 0]);
  });

  it('rejects at the deadline requests in flight as unconfirmed and the rest as not sent', async () => {
    const { kafka, clock, outcomes, publish, producer } = await newReadyBench();
    publish('a', 0);
    publish('w', 2);
    await settle();
    publish('b', 0);
    kafka.metadataFailures.push('unavailable', 'unavailable', 'unavailable');
    publish('u', 0, 'unknown');
    kafka.sends[1]!.fail('unavailable');
    await settle();
    kafka.onSend = (send) => send.fail('unavailable');
    const closing = producer.close(250);
    await clock.advance(250);
    await closing;
    const unsent = 'ClientClosedError: billing: closed before it was sent';
    expect(Object.fromEntries(outcomes)).toEqual({
      a: 'PublishUnconfirmedError: billing: closed before the request in flight was confirmed',
      b: unsent,
      w: unsent,
      u: unsent,
    });
    expect([producer.buffered, clock.pendingTimers]).toEqual([{ messages: 0, bytes: 0 }, 0]);
    kafka.open[0]!.confirm();
    await settle();
    expect([producer.state.current, kafka.producers[0]!.isClosed]).toEqual([closed, true]);
  });

  it('closes in time though the client’s producer never closes or opens', async () => {
    const { kafka, clock, producer, publish, outcomes } = await newReadyBench();
    kafka.producers[0]!.close = () => new Promise(() => {});
    const closing = noteWhenDone(producer.close(0));
    await clock.advance(500);
    expect(closing.done).toBe(true);
    const other = newProducerBench({ client: { openProducer: () => new Promise(() => {}) } });
    const opening = other.producer.open();
    const otherClosing = noteWhenDone(other.producer.close(1_000));
    await expect(opening).rejects.toThrow('billing: closed');
    await other.clock.advance(1_000);
    expect(otherClosing.done).toBe(true);
    await expect(other.producer.open()).rejects.toThrow('billing: closed');
    publish('a');
    await settle();
    expect(outcomes.get('a')).toBe('ClientClosedError: billing: closed');
  });

  it('closes a producer that opens after close()', async () => {
    const { kafka, producer } = newProducerBench();
    const opening = producer.open().catch((error: Error) => error.name);
    await producer.close(1_000);
    expect([await opening, kafka.producers[0]!.isClosed]).toEqual(['ClientClosedError', true]);
  });

  it('handles an openProducer that throws synchronously', async () => {
    const { producer, clock } = newProducerBench({
      client: {
        openProducer() {
          throw new KafkaClientError('unavailable', 'at once');
        },
      },
    });
    const published = producer.publish('t', newRecord('a')).catch((error: Error) => error.name);
    await settle();
    const closing = producer.close(0);
    await clock.advance(1);
    await closing;
    expect(await published).toBe('ClientClosedError');
  });
});

describe('Producer: cancelled publishes', () => {
  it('never sends one that waits for metadata, and gives its place to another', async () => {
    const { kafka, clock, publish, producer } = newProducerBench({ maxBufferedMessages: 2 });
    kafka.metadataFailures.push('unavailable');
    const [a] = [publish('a', 0), publish('b', 0)];
    await settle();
    expect([a.cancel(), producer.buffered.messages]).toEqual([true, 1]);
    publish('c', 0);
    await clock.advance(1_000);
    expect(valuesOf(kafka.sends)).toEqual([['b', 'c']]);
  });

  it('never sends one that is queued behind a request in flight, whose record cannot be withdrawn', async () => {
    const { kafka, publish, producer } = await newReadyBench();
    const a = publish('a', 0);
    await settle();
    const b = publish('b', 0);
    publish('c', 0);
    expect([b.cancel(), a.cancel(), b.cancel(), producer.buffered.messages]).toEqual([true, false, false, 2]);
    kafka.sends[0]!.confirm();
    await settle();
    expect(valuesOf(kafka.sends)).toEqual([['a'], ['c']]);
  });

  it('sends one again that was in flight only if it was not cancelled', async () => {
    const { kafka, clock, publish, producer } = await newReadyBench();
    const a = publish('a', 0);
    publish('b', 0);
    await settle();
    expect(a.cancel()).toBe(false);
    kafka.sends[0]!.fail('unavailable');
    await settle();
    expect(producer.buffered.messages).toBe(1);
    await clock.advance(1_000);
    expect(valuesOf(kafka.sends)).toEqual([['a', 'b'], ['b']]);
  });

  it('ends the back-off of a partition for which nothing is left, and does not call that recovered', async () => {
    const { kafka, clock, publish, producer, logger } = await newReadyBench();
    const a = publish('a', 0);
    await settle();
    kafka.sends[0]!.fail('unavailable');
    await settle();
    expect([a.cancel(), producer.buffered]).toEqual([true, { messages: 0, bytes: 0 }]);
    await clock.advance(1_000);
    expect([producer.state.current.value, clock.pendingTimers]).toEqual(['ready', 0]);
    expect(logger.lines).toEqual(['warn billing: the broker: unavailable; retrying']);
    publish('b', 0);
    await settle();
    expect(valuesOf(kafka.open)).toEqual([['b']]);
  });

  it('does not let a cancelled one in flight keep a close waiting', async () => {
    const { kafka, clock, publish, producer } = await newReadyBench();
    const a = publish('a', 0);
    await settle();
    a.cancel();
    const closing = noteWhenDone(producer.close(1_000));
    kafka.sends[0]!.fail('unavailable');
    await clock.advance(0);
    expect(closing.done).toBe(true);
  });
});
