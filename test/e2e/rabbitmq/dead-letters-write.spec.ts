import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import type { Options } from 'amqplib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { eventually, Seen } from '../../contract/app.js';
import { withResolvers } from '../../../lib/core/runtime/with-timeout.js';
import { startRewritingProxy } from '../../support/rewriting-proxy.js';
import { takeAll } from './dead-letter-queues.js';
import { forge, later, Raw, startRabbitApp, url, useRaw } from './support.js';

const seen = new Seen<{ queue: string; body: unknown }>();

@Controller()
class Fails {
  @EventPattern<string>('fail')
  fail(): never {
    throw new Error('no way');
  }
  @EventPattern<string>('fine')
  fine(@Payload() body: { queue: string }): void {
    seen.add({ queue: body.queue, body });
  }
  @EventPattern<string>('slow')
  async slow(@Payload() body: { queue: string }): Promise<void> {
    seen.add({ queue: body.queue, body });
    await gate;
  }
}

/** Settles when the test lets the handler end. */
let gate = Promise.resolve();

interface Poison {
  readonly what: string;
  readonly options: Options.Publish;
  readonly from?: Buffer;
  readonly to?: Buffer;
}

/** A client of its own: a channel or connection error closes only its own connection. */
async function writes(): Promise<Raw> {
  const writer = new Raw(url!);
  await writer.open();
  onTestFinished(() => writer.close());
  return writer;
}

const healthy = (queue: string): number => seen.all.filter((one) => one.queue === queue).length;

describe.skipIf(url === undefined)('RabbitMQ: dead letters', () => {
  const raw = useRaw();
  const start = (options = {}) =>
    startRabbitApp({ controllers: [Fails], options: { queue: raw().queue(), ...options } });
  const send = (queue: string, body: Buffer, options: Options.Publish): void =>
    void raw().channel.publish('', queue, body, { type: 'fail', ...options });

  it('carry no header that the broker acts on, and their details as text', async () => {
    const { queue } = await start();
    const [cc, bcc] = [raw().queue(), raw().queue()];
    for (const name of [cc, bcc]) await raw().channel.assertQueue(name);
    const body = Buffer.from([0x22, 0xc3, 0xbc, 0x22]);
    const death = { count: 3, reason: 'rejected', queue: 'old', exchange: '', 'routing-keys': ['old'] };
    send(queue, body, {
      userId: 'guest',
      expiration: '60000',
      messageId: 'm-1',
      correlationId: 'c-1',
      appId: 'shop',
      priority: 4,
      timestamp: 1_700_000_000,
      contentType: 'application/json',
      headers: {
        CC: [cc],
        BCC: [bcc],
        'x-death': [death],
        'x-delivery-count': 5,
        'x-first-death-queue': 'old',
        'x-last-death-queue': 'old',
        'x-acquired-count': 3,
        tenant: 'blue',
        nested: { deep: [1, 'a', { b: true }] },
      },
    });
    const [deadLetter] = await raw().deadLetters(`${queue}.dlq`, 1);
    const { properties, content } = deadLetter!.message;
    expect(content).toEqual(body);
    expect(properties).toMatchObject({
      messageId: 'm-1',
      correlationId: 'c-1',
      appId: 'shop',
      priority: 4,
      timestamp: 1_700_000_000,
      contentType: 'application/json',
      type: 'fail',
      deliveryMode: 2,
    });
    expect(properties).toMatchObject({ expiration: undefined, userId: undefined, replyTo: undefined });
    const owned = Object.keys(deadLetter!.headers).filter((name) => /^(x-|CC$|BCC$)/.test(name));
    expect(owned.filter((name) => name !== 'x-delivery-count')).toEqual([]);
    expect(deadLetter!.headers).toMatchObject({
      tenant: 'blue',
      nested: { deep: [1, 'a', { b: true }] },
      'stork-origin-expiration': '60000',
      'stork-origin-user-id': 'guest',
      'stork-origin': queue,
      'stork-death-reason': 'retries-exhausted',
      'stork-error-message': 'no way',
    });
    expect(deadLetter!.headers['stork-origin-cc']).toContain(cc);
    // CC and BCC route the original message; the dead letter is not routed by them again.
    expect(await raw().count(cc)).toBe(1);
    expect(await raw().count(bcc)).toBe(1);
    // Browsing it requeues it: it is ready again shortly after the channel is closed.
    await expect.poll(() => raw().count(`${queue}.dlq`)).toBe(1);
  });

  it('of a request carry no reply address', async () => {
    const { queue } = await start();
    const replyTo = 'some.queue';
    send(queue, Buffer.from('1'), { replyTo, messageId: 'm' });
    const [deadLetter] = await raw().deadLetters(`${queue}.dlq`, 1);
    expect(deadLetter!.message.properties.replyTo).toBeUndefined();
    expect(deadLetter!.headers).toMatchObject({ 'stork-death-reason': 'invalid' });
  });

  const invalidText = Buffer.alloc(200, 0xff);
  const long = 'M'.repeat(200);
  const marker = Buffer.from(long);
  const timeMarker = 0x4d4d4d4d4d4d;

  it.each<Poison>([
    { what: '64 KB of headers', options: { headers: { a: 'x'.repeat(32_000), b: 'y'.repeat(32_000) } } },
    { what: 'a header -1e300', options: { headers: { odd: { '!': 'double', value: -1e300 } } } },
    {
      what: 'a fraction beyond 2^50',
      options: { headers: { odd: { '!': 'double', value: 2 ** 51 + 0.5 } } },
    },
    {
      what: 'a table with the name !',
      options: { headers: { odd: { '~': 'no' } } },
      from: Buffer.from('\u0001~S'),
      to: Buffer.from('\u0001!S'),
    },
    { what: 'a message id that is not UTF-8', options: { messageId: long }, from: marker, to: invalidText },
    { what: 'a header name not UTF-8', options: { headers: { [long]: 1 } }, from: marker, to: invalidText },
    {
      what: 'a timestamp of 64 set bits',
      options: { timestamp: timeMarker },
      from: Buffer.from([0, 0, 0x4d, 0x4d, 0x4d, 0x4d, 0x4d, 0x4d]),
      to: Buffer.alloc(8, 0xff),
    },
  ])('of a message with $what are written, and the source goes on', async ({ options, from, to }) => {
    const { queue, counts } = await start();
    const writer = await writes();
    if (from !== undefined) forge(writer, from, to!);
    writer.channel.publish('', queue, Buffer.from('"poison"'), { type: 'fail', ...options });
    await writer.confirmed();
    await eventually(async () => counts()['failed'], 'the failure');
    for (let n = 0; n < 5; n++)
      send(queue, Buffer.from(JSON.stringify({ queue, n })), { type: 'fine', messageId: `h-${n}` });
    await expect.poll(() => healthy(queue)).toBe(5);
    await expect.poll(() => raw().count(`${queue}.dlq`)).toBe(1);
    // Not repeatedly.
    expect(counts()['failed']).toBe(1);
    const [deadLetter] = await raw().deadLetters(`${queue}.dlq`, 1);
    expect(deadLetter!.body).toBe('"poison"');
  });

  it('are written again after their queue was deleted', async () => {
    const { queue, counts } = await start();
    await raw().channel.deleteQueue(`${queue}.dlq`);
    for (let n = 0; n < 3; n++) send(queue, Buffer.from(String(n)), { messageId: `m-${n}` });
    const deadLetters = await raw().deadLetters(`${queue}.dlq`, 3);
    expect(deadLetters.map(({ body }) => body).toSorted()).toEqual(['0', '1', '2']);
    await expect.poll(() => counts()['dead-lettered']).toBe(3);
  });

  // A wrong length, as no broker sends it: it stands for what amqplib cannot decode even without the headers.
  const marked = Buffer.from(`\u00c8${long}`, 'latin1');
  const wrong = Buffer.from(`\u00ff${long}`, 'latin1');
  it.each<{ error: string; options: Options.Publish }>([
    { error: 'RangeError', options: { messageId: long, timestamp: 7 } },
    { error: 'TypeError', options: { contentType: long, headers: { n: 'L'.repeat(500) } } },
  ])(
    'of a frame on which amqplib throws a $error are created by the delivery limit, while healthy messages are handled',
    async ({ options }) => {
      const proxy = await startRewritingProxy(url!);
      onTestFinished(() => proxy.close());
      proxy.replace(marked, wrong);
      const { queue } = await start({ deliveryLimit: 5, prefetch: 4, url: proxy.url });
      const { opened } = proxy;
      for (let n = 0; n < 20; n++) {
        if (n === 3) send(queue, Buffer.from('"poison"'), options);
        send(queue, Buffer.from(JSON.stringify({ queue, n })), { type: 'fine' });
      }
      const handled = (): Set<number> =>
        new Set(seen.all.filter((one) => one.queue === queue).map(({ body }) => (body as { n: number }).n));
      await expect.poll(() => handled().size).toBe(20);
      await expect.poll(() => raw().count(`${queue}.dlq`)).toBe(1);
      await expect.poll(() => raw().count(queue)).toBe(0);
      // One loss for each delivery of the poison message.
      expect(proxy.opened - opened).toBeLessThanOrEqual(7);
    },
  );

  it('of such a frame let the shutdown of a consumer take no further message', async () => {
    const proxy = await startRewritingProxy(url!);
    onTestFinished(() => proxy.close());
    proxy.replace(marked, wrong);
    const { queue, close } = await start({ deliveryLimit: 1, url: proxy.url });
    send(queue, Buffer.from('"poison"'), { messageId: long, timestamp: 7 });
    await expect.poll(() => raw().count(`${queue}.dlq`)).toBe(1);
    const { promise, resolve } = withResolvers<void>();
    gate = promise;
    for (let n = 0; n < 6; n++)
      send(queue, Buffer.from(JSON.stringify({ queue, n })), { type: n === 0 ? 'slow' : 'fine' });
    await expect.poll(() => healthy(queue)).toBe(1);
    const closed = close();
    // By then the consumer is cancelled; a quorum queue counts it until its messages are settled.
    await later(100);
    resolve();
    await closed;
    const left = await takeAll(raw(), queue);
    expect(left.map(({ fields }) => fields.redelivered)).toEqual([false, false, false, false, false]);
  });

  it('wait while their queue refuses them, and are written when it accepts them again', async () => {
    const { queue, counts } = await start();
    const dlq = `${queue}.dlq`;
    // A queue of that name which accepts one message: an operator's policy can do this.
    await raw().channel.deleteQueue(dlq);
    const limits = { 'x-queue-type': 'quorum', 'x-max-length': 1, 'x-overflow': 'reject-publish' };
    await raw().channel.assertQueue(dlq, { durable: true, arguments: limits });
    for (let n = 0; n < 4; n++) send(queue, Buffer.from(String(n)), { messageId: `m-${n}` });
    await eventually(async () => counts()['dead-lettered'], 'the first dead letter');
    await later(300);
    await raw().channel.deleteQueue(dlq);
    await eventually(async () => (counts()['dead-lettered'] === 4 ? true : undefined), 'every dead letter');
    send(queue, Buffer.from(JSON.stringify({ queue, n: 1 })), { type: 'fine' });
    await eventually(async () => (healthy(queue) === 1 ? true : undefined), 'the source to go on');
  });
});
