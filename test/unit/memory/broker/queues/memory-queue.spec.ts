import { describe, expect, it } from 'vitest';
import { fill, message, newQueue, read, settle, texts } from '../../harness.js';

describe('delivery', () => {
  it('is first in, first out', async () => {
    const queue = newQueue();
    fill(queue, 'a', 'b', 'c');
    const reader = read(queue);
    await settle();
    expect(reader.texts()).toEqual(['a', 'b', 'c']);
    expect(reader.deliveries.map(({ tag }) => tag)).toEqual([1, 2, 3]);
    expect(reader.deliveries[0]).toMatchObject({ redelivered: false, deliveryCount: 0 });
  });

  it('never happens within enqueue, consume or ack, and takes one microtask', async () => {
    const queue = newQueue();
    fill(queue, 'a');
    const reader = read(queue, 1);
    fill(queue, 'b');
    expect(reader.texts()).toEqual([]);
    await Promise.resolve();
    expect(reader.texts()).toEqual(['a']);
    reader.consumer.ack(1);
    expect(reader.texts()).toEqual(['a']);
    await Promise.resolve();
    expect(reader.texts()).toEqual(['a', 'b']);
  });

  it('puts higher priorities first and keeps order within one; above maxPriority all are the same', async () => {
    const queue = newQueue({ maxPriority: 5 });
    const priorities: [string, number | undefined][] = [
      ['low', undefined],
      ['five', 5],
      ['two', 2],
      ['nine', 9],
      ['two again', 2],
    ];
    for (const [body, priority] of priorities) queue.enqueue(message(body, { priority }));
    const expected = ['five', 'nine', 'two', 'two again', 'low'];
    expect(texts(queue.peek())).toEqual(expected);
    const reader = read(queue);
    await settle();
    expect(reader.texts()).toEqual(expected);
  });

  it('ignores priorities on a queue without maxPriority', () => {
    const queue = newQueue();
    queue.enqueue(message('a', { priority: 1 }));
    queue.enqueue(message('b', { priority: 9 }));
    expect(texts(queue.peek())).toEqual(['a', 'b']);
  });

  it('never exceeds the prefetch', async () => {
    const queue = newQueue();
    const reader = read(queue, 2);
    fill(queue, 'a', 'b', 'c', 'd');
    await settle();
    expect(reader.texts()).toEqual(['a', 'b']);
    expect([queue.ready, queue.unacked]).toEqual([2, 2]);
    reader.consumer.ack(2);
    await settle();
    expect(reader.texts()).toEqual(['a', 'b', 'c']);
  });

  it('is round robin over the consumers and skips those whose prefetch window is full', async () => {
    const queue = newQueue();
    const one = read(queue, 1);
    const two = read(queue, 0);
    const three = read(queue, 0);
    fill(queue, 'a', 'b', 'c', 'd', 'e');
    await settle();
    expect([one.texts(), two.texts(), three.texts()]).toEqual([['a'], ['b', 'd'], ['c', 'e']]);
  });
});

describe('settling', () => {
  it('removes an acknowledged message for good', async () => {
    const queue = newQueue();
    const reader = read(queue);
    fill(queue, 'a');
    await settle();
    reader.consumer.ack(1);
    reader.consumer.close();
    expect([queue.ready, queue.unacked, queue.consumers]).toEqual([0, 0, 0]);
  });

  it('puts a requeued message back at its place, marked as redelivered and counted', async () => {
    const queue = newQueue();
    const reader = read(queue, 2);
    fill(queue, 'a', 'b', 'c');
    await settle();
    reader.consumer.cancel();
    reader.consumer.nack(2, true);
    expect(texts(queue.peek())).toEqual(['b', 'c']);
    reader.consumer.nack(1, true);
    expect(texts(queue.peek())).toEqual(['a', 'b', 'c']);
    const next = read(queue);
    await settle();
    const marks = next.deliveries.map(({ redelivered, deliveryCount }) => [redelivered, deliveryCount]);
    expect(marks).toEqual([
      [true, 1],
      [true, 1],
      [false, 0],
    ]);
  });

  it('throws on a tag that is unknown or already settled, naming tag and queue', async () => {
    const queue = newQueue();
    const reader = read(queue);
    fill(queue, 'a');
    await settle();
    expect(() => reader.consumer.ack(7)).toThrow(/delivery tag 7 .*queue "q"/);
    reader.consumer.ack(1);
    expect(() => reader.consumer.ack(1)).toThrow(/406/);
    expect(() => reader.consumer.nack(1, true)).toThrow(/406/);
    expect(() => reader.consumer.nack(1, false)).toThrow(/406/);
    expect(queue.unacked).toBe(0);
  });

  it('may happen inside onDelivery', async () => {
    const queue = newQueue();
    const seen: string[] = [];
    const consumer = queue.consume({
      prefetch: 1,
      onDelivery: ({ tag, message: { body } }) => {
        seen.push(body.toString());
        consumer.ack(tag);
      },
    });
    fill(queue, 'a', 'b', 'c');
    await settle();
    expect(seen).toEqual(['a', 'b', 'c']);
    expect(queue.unacked).toBe(0);
  });
});
