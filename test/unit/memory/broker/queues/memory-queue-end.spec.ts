import { describe, expect, it } from 'vitest';
import type { QueueDelivery } from '../../../../../lib/memory/broker/queues/memory-queue.js';
import { fill, message, newQueue, read, settle, texts } from '../../harness.js';

describe('the end of a consumer', () => {
  it('cancelled, it gets no more messages, and unacknowledged ones can still be settled', async () => {
    const queue = newQueue();
    const reader = read(queue);
    fill(queue, 'a', 'b');
    await settle();
    reader.consumer.cancel();
    fill(queue, 'c');
    await settle();
    expect(reader.texts()).toEqual(['a', 'b']);
    expect([queue.ready, queue.unacked, queue.consumers]).toEqual([1, 2, 0]);
    reader.consumer.ack(1);
    reader.consumer.nack(2, true);
    expect(texts(queue.peek())).toEqual(['b', 'c']);
    expect(queue.unacked).toBe(0);
  });

  it('closed, its unacknowledged messages are requeued in order', async () => {
    const queue = newQueue();
    const reader = read(queue, 3);
    fill(queue, 'a', 'b', 'c', 'd');
    await settle();
    reader.consumer.ack(2);
    reader.consumer.close();
    reader.consumer.close();
    expect(texts(queue.peek())).toEqual(['a', 'c', 'd']);
    expect(() => reader.consumer.ack(1)).toThrow(/the consumer is closed/);
  });

  it('closed after it was cancelled, its unacknowledged messages are requeued, too', async () => {
    const queue = newQueue();
    const reader = read(queue);
    fill(queue, 'a');
    await settle();
    reader.consumer.cancel();
    reader.consumer.close();
    expect([queue.ready, queue.unacked]).toEqual([1, 0]);
  });

  it('its requeued messages are delivered to other consumers in order', async () => {
    const queue = newQueue();
    const first = read(queue);
    fill(queue, 'a', 'b', 'c');
    await settle();
    first.consumer.nack(1, true);
    await settle();
    expect(first.texts()).toEqual(['a', 'b', 'c', 'a']);
    const second = read(queue, 1);
    first.consumer.close();
    await settle();
    expect(second.texts()).toEqual(['a']);
    expect(texts(queue.peek())).toEqual(['b', 'c']);
  });

  it.each(['cancel', 'close'] as const)(
    'by %s, a message on its way counts as never delivered',
    async (end) => {
      const queue = newQueue();
      const reader = read(queue);
      fill(queue, 'a');
      expect(queue.unacked).toBe(1);
      reader.consumer[end]();
      await settle();
      expect(reader.texts()).toEqual([]);
      expect(queue.unacked).toBe(0);
      const next = read(queue);
      await settle();
      expect(next.deliveries).toMatchObject([{ redelivered: false, deliveryCount: 0 }]);
    },
  );
});

describe('a queue', () => {
  it('can be purged of ready messages', async () => {
    const queue = newQueue();
    const reader = read(queue, 1);
    fill(queue, 'a', 'b', 'c');
    await settle();
    expect(queue.purge()).toBe(2);
    expect([queue.ready, queue.unacked]).toEqual([0, 1]);
    reader.consumer.nack(1, true);
    await settle();
    expect(reader.texts()).toEqual(['a', 'a']);
  });

  it('deleted, cancels its consumers, and settling has no effect any more', async () => {
    const queue = newQueue({ deadLetterExchange: '', deadLetterRoutingKey: 'q' });
    const delivered: QueueDelivery[] = [];
    let cancellations = 0;
    const consumer = queue.consume({
      prefetch: 3,
      onDelivery: (delivery) => void delivered.push(delivery),
      onCancelled: () => (cancellations += 1),
    });
    const cancelled = queue.consume({
      prefetch: 1,
      onDelivery: () => {},
      onCancelled: () => (cancellations += 100),
    });
    cancelled.cancel();
    fill(queue, 'a', 'b', 'c', 'd');
    await settle();
    queue.delete();
    queue.delete();
    expect(cancellations).toBe(1);
    expect([queue.ready, queue.unacked, queue.consumers]).toEqual([0, 0, 0]);
    consumer.ack(1);
    consumer.nack(2, true);
    consumer.nack(3, false);
    consumer.close();
    expect(queue.enqueue(message('late'))).toBe('rejected');
    expect([queue.ready, queue.unacked]).toEqual([0, 0]);
    expect(() => read(queue)).toThrow(/deleted/);
  });
});
