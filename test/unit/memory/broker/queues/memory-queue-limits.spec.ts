import { describe, expect, it } from 'vitest';
import { read, settle, texts, workAndDead } from '../../harness.js';

describe('the delivery limit', () => {
  it('dead-letters a message that is requeued more often', async () => {
    const { work, dead, publish } = workAndDead({ deliveryLimit: 2 });
    publish('a');
    const { consumer, deliveries } = read(work);
    for (const tag of [1, 2, 3]) {
      await settle();
      consumer.nack(tag, true);
    }
    await settle();
    expect(deliveries.map(({ deliveryCount }) => deliveryCount)).toEqual([0, 1, 2]);
    expect(work.ready + work.unacked).toBe(0);
    expect(dead.peek()[0]!.headers).toMatchObject({ 'x-first-death-reason': 'delivery_limit' });
  });

  it('counts a requeue by the close of a consumer', async () => {
    const { work, dead, publish } = workAndDead({ deliveryLimit: 0 });
    publish('a');
    const { consumer } = read(work);
    await settle();
    consumer.close();
    expect(texts(dead.peek())).toEqual(['a']);
  });
});

describe('time to live', () => {
  it.each([
    ['the message', { messageTtlMs: 500 }, 100],
    ['the queue', { messageTtlMs: 100 }, 500],
    ['the queue alone', { messageTtlMs: 100 }, undefined],
  ])('is the smaller one, here that of %s', async (_, settings, expirationMs) => {
    const { clock, work, dead, publish } = workAndDead(settings);
    publish('a', expirationMs);
    await clock.advance(99);
    expect([work.ready, dead.ready]).toEqual([1, 0]);
    await clock.advance(1);
    expect([work.ready, dead.ready]).toEqual([0, 1]);
    expect(dead.peek()[0]!.headers).toMatchObject({ 'x-first-death-reason': 'expired' });
    expect(clock.pendingTimers).toBe(0);
  });

  it('ends only at the head of the queue', async () => {
    const { clock, work, dead, publish } = workAndDead({});
    publish('long', 1_000);
    publish('short', 10);
    await clock.advance(999);
    expect(work.ready).toBe(2);
    await clock.advance(1);
    expect(texts(dead.peek())).toEqual(['long', 'short']);
  });

  it('ends for the next message when the head is consumed', async () => {
    const { clock, work, dead, publish } = workAndDead({});
    publish('forever');
    publish('short', 10);
    await clock.advance(50);
    const { deliveries } = read(work, 1);
    await settle();
    expect(deliveries).toHaveLength(1);
    expect(texts(dead.peek())).toEqual(['short']);
  });

  it('does not end while the message is unacknowledged, but when it is requeued', async () => {
    const { clock, work, dead, publish } = workAndDead({ messageTtlMs: 100 });
    publish('a');
    const { consumer, deliveries } = read(work);
    await clock.advance(100);
    expect([work.unacked, dead.ready]).toEqual([1, 0]);
    consumer.nack(1, true);
    await settle();
    expect(deliveries).toHaveLength(1);
    expect(texts(dead.peek())).toEqual(['a']);
  });

  it('of 0 ms reaches a consumer that is free, and no later one', async () => {
    const { work, dead, publish } = workAndDead({ messageTtlMs: 0 });
    publish('no consumer');
    expect(work.ready).toBe(0);
    const { texts: received } = read(work, 1);
    publish('taken');
    publish('no free consumer');
    await settle();
    expect(received()).toEqual(['taken']);
    expect(texts(dead.peek())).toEqual(['no consumer', 'no free consumer']);
  });

  it('leaves no timer behind when the queue is emptied or deleted', async () => {
    const { clock, broker, work, publish } = workAndDead({ messageTtlMs: 100 });
    publish('a');
    expect(clock.pendingTimers).toBe(1);
    work.purge();
    expect(clock.pendingTimers).toBe(0);
    publish('b');
    broker.deleteQueue('work');
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('the maximal length', () => {
  it('dead-letters the oldest with drop-head, which is the default', () => {
    for (const settings of [{ maxLength: 2 }, { maxLength: 2, overflow: 'drop-head' as const }]) {
      const { work, dead, publish } = workAndDead(settings);
      expect(['a', 'b', 'c', 'd'].map((text) => publish(text))).toEqual(Array(4).fill('routed'));
      expect(texts(work.peek())).toEqual(['c', 'd']);
      expect(texts(dead.peek())).toEqual(['a', 'b']);
      expect(dead.peek()[0]!.headers).toMatchObject({ 'x-first-death-reason': 'maxlen' });
    }
  });

  it('rejects publishes with reject-publish', () => {
    const { work, dead, publish } = workAndDead({ maxLength: 1, overflow: 'reject-publish' });
    expect([publish('a'), publish('b')]).toEqual(['routed', 'rejected']);
    expect([work.ready, dead.ready]).toEqual([1, 0]);
  });

  it('counts ready messages only, so a message for a free consumer is never rejected', async () => {
    const { work, publish } = workAndDead({ maxLength: 1, overflow: 'reject-publish' });
    const { texts: received } = read(work, 3);
    const outcomes = ['a', 'b', 'c', 'd', 'e'].map((text) => publish(text));
    expect(outcomes).toEqual(['routed', 'routed', 'routed', 'routed', 'rejected']);
    await settle();
    expect(received()).toEqual(['a', 'b', 'c']);
  });
});
