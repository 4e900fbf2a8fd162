import { randomBytes } from 'node:crypto';
import { Controller } from '@nestjs/common';
import { MessagePattern, Payload } from '@nestjs/microservices';
import { firstValueFrom, from, interval, lastValueFrom, take, tap, toArray, type Observable } from 'rxjs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { eventually } from '../../contract/app.js';
import { useRabbitMqNode } from '../../support/rabbitmq-node.js';
import { codeOf, startRabbitApp, uniqueQueue, url, useRaw } from './support.js';
import { startStallingProxy } from './stalling-proxy.js';

const charged = new Map<string, number>();

@Controller()
class Worker {
  @MessagePattern<string>('echo')
  echo(@Payload() n: number): number {
    return n;
  }
  @MessagePattern<string>('large')
  large(@Payload() bytes: number): string {
    return 'x'.repeat(bytes);
  }
  @MessagePattern<string>('charge')
  charge(@Payload() card: string): string {
    charged.set(card, (charged.get(card) ?? 0) + 1);
    return card;
  }
  @MessagePattern<string>('stream')
  stream(@Payload() count: number): Observable<number> {
    return from(Array.from({ length: count }, (_, i) => i));
  }
  @MessagePattern<string>('ticks')
  ticks(@Payload() count: number): Observable<number> {
    return interval(5).pipe(take(count));
  }
}

/** What no RabbitMQ has written: it closes the connection of whoever publishes to it. */
const forgedAddress = (): string =>
  `amq.rabbitmq.reply-to.${randomBytes(30).toString('base64')}.${randomBytes(16).toString('base64')}`;

describe.skipIf(url === undefined)('RabbitMQ: replies', () => {
  const raw = useRaw();
  const json = { contentType: 'application/json' };

  const forge = (queue: string, replyTo = forgedAddress()): void =>
    void raw().channel.sendToQueue(queue, Buffer.from('1'), {
      ...json,
      type: 'echo',
      replyTo,
      correlationId: 'x',
      messageId: replyTo,
    });

  it('to forged addresses end, and other callers are answered beside them', async () => {
    const { client, queue, counts } = await startRabbitApp({
      controllers: [Worker],
      options: { queue: raw().queue(), concurrency: 20 },
    });
    const isDone = { value: false };
    let answered = 0;
    const callers = Array.from({ length: 20 }, async () => {
      while (!isDone.value) {
        await client.request('echo', 1);
        answered++;
      }
    });
    forge(queue);
    await eventually(async () => counts()['reply-undeliverable'], 'the forged reply');
    for (let i = 0; i < 20; i++) forge(queue);
    await eventually(
      async () => (counts()['reply-undeliverable'] === 21 ? true : undefined),
      'the other forged replies',
    );
    const before = answered;
    await eventually(async () => (answered >= before + 100 ? true : undefined), 'further answers');
    isDone.value = true;
    await Promise.all(callers);
    expect(counts()['requeued']).toBeUndefined();
  });

  it('to forged addresses do not break streams: each item arrives once, in order', async () => {
    const { client, queue, counts } = await startRabbitApp({
      controllers: [Worker],
      options: { queue: raw().queue(), concurrency: 70 },
    });
    const items = Array.from({ length: 300 }, (_, i) => i);
    const streams = Array.from({ length: 20 }, () =>
      lastValueFrom(client.send<number>('stream', 300).pipe(toArray())),
    );
    for (let i = 0; i < 12; i++) forge(queue);
    for (const stream of streams) expect(await stream).toEqual(items);
    await eventually(
      async () => (counts()['reply-undeliverable'] === 12 ? true : undefined),
      'the forged replies',
    );
  });

  it('to a full reply queue are sent again, and the handler is not called again', async () => {
    const queue = raw().queue();
    const replies = raw().queue();
    const { channel } = raw();
    await channel.assertQueue(replies, {
      durable: true,
      arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' },
    });
    const { client, counts } = await startRabbitApp({
      controllers: [Worker],
      options: { queue, replyQueues: [replies], concurrency: 2 },
    });
    for (let i = 0; i < 2; i++) channel.sendToQueue(replies, Buffer.from('full'));
    await expect(raw().confirmed()).rejects.toThrow('nacked');
    const cards = ['a', 'b', 'c'].map((name) => `${queue}/${name}`);
    for (const card of cards) {
      const options = { ...json, type: 'charge', replyTo: replies, correlationId: card, messageId: card };
      channel.sendToQueue(queue, Buffer.from(JSON.stringify(card)), options);
    }
    await eventually(
      async () => (cards.every((card) => charged.has(card)) ? true : undefined),
      'the charges',
    );
    // The replies that wait occupy neither of the two slots.
    expect(await client.request('echo', 2)).toBe(2);
    await channel.purgeQueue(replies);
    const taken = new Set<string>();
    await eventually(async () => {
      const message = await channel.get(replies, { noAck: true });
      if (message !== false) taken.add(String(message.properties.correlationId));
      return taken.size === cards.length ? true : undefined;
    }, 'the replies');
    expect(cards.map((card) => charged.get(card))).toEqual([1, 1, 1]);
    expect(counts()).not.toHaveProperty('requeued');
  });

  it('to addresses that cannot receive them are counted, and their requests are handled once', async () => {
    const queue = raw().queue();
    const missing = uniqueQueue();
    const { client, counts } = await startRabbitApp({
      controllers: [Worker],
      options: { queue, replyQueues: [missing] },
    });
    const notBase64 = `amq.rabbitmq.reply-to.${'\ufffd'.repeat(70)}`;
    for (const address of [missing, 'amq.gen-nobody', notBase64]) forge(queue, address);
    await eventually(
      async () => (counts()['reply-undeliverable'] === 2 ? true : undefined),
      'the replies to queues that do not exist',
    );
    expect(await client.request('echo', 2)).toBe(2);
    await eventually(async () => (counts()['handled'] === 4 ? true : undefined), 'the requests');
    expect(counts()).not.toHaveProperty('requeued');
  });

  it('of a stream whose confirmation was lost arrive once', async () => {
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    const queue = raw().queue();
    await startRabbitApp({ controllers: [Worker], options: { queue, url: proxy.url } });
    const { client } = await startRabbitApp({
      options: { queue: uniqueQueue(), handlers: 'none', publishTo: { queue } },
    });
    const seen: number[] = [];
    const ended = [1, 2].map(() =>
      lastValueFrom(
        client.send<number>('ticks', 100).pipe(
          tap((item) => seen.push(item)),
          toArray(),
        ),
      ),
    );
    await eventually(async () => (seen.length > 5 ? true : undefined), 'the first items');
    proxy.stallBroker();
    await expect.poll(() => proxy.held).toBeGreaterThan(0);
    proxy.cut();
    proxy.resume();
    const all = Array.from({ length: 100 }, (_, i) => i);
    expect(await Promise.all(ended)).toEqual([all, all]);
  });
});

describe.skipIf(url === undefined)('RabbitMQ: replies that the broker refuses', { timeout: 300_000 }, () => {
  const node = useRabbitMqNode();

  it('because of their size are an error to their caller alone', async () => {
    await node().maxMessageSize(100_000);
    const { client, counts } = await startRabbitApp({
      controllers: [Worker],
      options: { url: node().url, queue: uniqueQueue(), concurrency: 50 },
    });
    const small = Array.from({ length: 100 }, () => client.request('echo', 1, { timeoutMs: 20_000 }));
    const large = [150_000, 2_000_000].map((bytes) =>
      client.request('large', bytes, { timeoutMs: 20_000 }).catch((error: unknown) => codeOf(error)),
    );
    expect(await Promise.all(large)).toEqual(['TOO_LARGE', 'TOO_LARGE']);
    expect(new Set(await Promise.all(small))).toEqual(new Set([1]));
    expect(await firstValueFrom(client.send<string>('large', 90_000))).toHaveLength(90_000);
    expect(counts()).toMatchObject({ handled: 103, 'reply-undeliverable': 2 });
  });
});
