import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import type { ConsumeMessage } from 'amqplib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { isStorkError, StorkConfigError, StorkContext } from 'nestjs-stork';
import { eventually, Seen } from '../../contract/app.js';
import { codeOf, later, refusal, startRabbitApp, uniqueQueue, url, useRaw } from './support.js';
import { startStallingProxy } from './stalling-proxy.js';

type Settled = PromiseSettledResult<void>;
const codesOf = (all: readonly Settled[]): unknown[] =>
  all.map((one) => (one.status === 'rejected' ? codeOf(one.reason) : 'ok'));

describe.skipIf(url === undefined)('RabbitMQ: publishing', () => {
  const raw = useRaw();
  const sender = (options = {}) =>
    startRabbitApp({
      options: { queue: raw().queue(), handlers: 'none', publishTo: { queue: 'x' }, ...options },
    });

  it('rejects with NO_ROUTE for an unknown queue and an unbound key, and for those only', async () => {
    const queue = raw().queue();
    await raw().channel.assertQueue(queue);
    const exchange = raw().exchange();
    await raw().channel.assertExchange(exchange, 'direct');
    const { client } = await sender();
    const to = [{ queue }, { queue: uniqueQueue() }, { exchange, routingKey: 'nobody' }];
    const sent = Array.from({ length: 300 }, (_, n) => client.publish('p', n, { to: to[n % 3]! }));
    const codes = codesOf(await Promise.allSettled(sent));
    expect(codes).toEqual(Array.from({ length: 300 }, (_, n) => (n % 3 === 0 ? 'ok' : 'NO_ROUTE')));
    expect(await raw().drain(queue)).toEqual(Array.from({ length: 100 }, (_, n) => String(n * 3)));
  });

  it('rejects with NO_ROUTE for an unknown exchange and never falsely confirms other messages in flight', async () => {
    const queue = raw().queue();
    await raw().channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    const { client } = await sender();
    const exchange = uniqueQueue();
    const sent = Array.from({ length: 200 }, (_, n) =>
      client.publish('p', n, { to: n === 100 ? { exchange } : { queue } }),
    );
    const outcomes = await Promise.allSettled(sent);
    expect(outcomes[100]).toMatchObject({ reason: { code: 'NO_ROUTE' } });
    const held = new Set(await raw().drain(queue));
    outcomes.forEach((one, n) => {
      if (n === 100) return;
      if (one.status === 'fulfilled') expect(held).toContain(String(n));
      else expect(codeOf(one.reason)).toBe('PUBLISH_UNCONFIRMED');
    });
    await client.publish('p', 'after', { to: { queue } });
    expect(await raw().drain(queue)).toEqual(['"after"']);
  });

  it('rejects with PUBLISH_REJECTED if a queue is full', async () => {
    const queue = raw().queue();
    const limits = { 'x-queue-type': 'quorum', 'x-max-length': 3, 'x-overflow': 'reject-publish' };
    await raw().channel.assertQueue(queue, { durable: true, arguments: limits });
    const { client } = await sender();
    const codes: unknown[] = [];
    for (let n = 0; n < 10; n++)
      codes.push(...codesOf(await Promise.allSettled([client.publish('p', n, { to: { queue } })])));
    expect(codes.slice(0, 3)).toEqual(['ok', 'ok', 'ok']);
    expect(codes.at(-1)).toBe('PUBLISH_REJECTED');
    const stored = codes.filter((code) => code === 'ok').length;
    expect(await raw().drain(queue)).toHaveLength(stored);
  });

  it('buffers publishes while the broker is unavailable, in order and up to the limit', async () => {
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    const queue = raw().queue();
    await raw().channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    const { client, service } = await sender({
      url: proxy.url,
      maxBufferedMessages: 50,
      reconnect: { delayMs: 1_000, maxDelayMs: 1_000 },
    });
    proxy.stall();
    proxy.cut();
    await eventually(
      async () => (service.state()['main']!.connection.value === 'ready' ? undefined : true),
      'the loss',
    );
    const sent = Array.from({ length: 70 }, (_, n) => client.publish('p', n, { to: { queue } }));
    const outcomes = Promise.allSettled(sent);
    await later(50);
    proxy.resume();
    proxy.cut();
    expect(codesOf(await outcomes)).toEqual(
      Array.from({ length: 70 }, (_, n) => (n < 50 ? 'ok' : 'BUFFER_FULL')),
    );
    expect(await raw().drain(queue)).toEqual(Array.from({ length: 50 }, (_, n) => String(n)));
    await client.publish('p', 'after', { to: { queue } });
  });

  it('limits the buffered bytes, too', async () => {
    const { client } = await sender({ maxBufferedBytes: 1_000, publishTo: { queue: 'x' } });
    await expect(client.publish('p', 'x'.repeat(2_000))).rejects.toMatchObject({ code: 'BUFFER_FULL' });
  });

  it('refuses headers that exceed the frame size, and continues', async () => {
    const queue = raw().queue();
    await raw().channel.assertQueue(queue);
    const { client } = await sender();
    const headers = { big: 'x'.repeat(70_000) };
    const around = [1, 2, 3].map((n) => client.publish('p', n, { to: { queue } }));
    await expect(client.publish('p', 0, { to: { queue }, headers })).rejects.toMatchObject({
      code: 'TOO_LARGE',
    });
    await Promise.all(around);
    await client.publish('p', 4, { to: { queue }, headers: { big: 'x'.repeat(60_000) } });
    expect(await raw().drain(queue)).toEqual(['1', '2', '3', '4']);
  });

  it.each([
    ['a bigint', 2n ** 60n],
    ['a negative bigint', -7n],
    ['a Date', new Date(1_700_000_000_000)],
    ['a Uint8Array', new Uint8Array([1, 2, 3])],
    ['a Buffer', Buffer.from([1, 2, 3])],
    ['NaN', Number.NaN],
    ['a negative double beyond 64 bits', -1e300],
    ['null', null],
    ['a list', ['a', 1, true]],
    ['a table', { a: { b: 1 } }],
  ])('carries %s as header, or refuses it by name', async (what, value) => {
    const queue = raw().queue();
    await raw().channel.assertQueue(queue);
    const { client } = await sender();
    const [outcome] = await Promise.allSettled([
      client.publish('p', 1, { to: { queue }, headers: { given: value } }),
    ]);
    if (outcome.status === 'rejected') {
      expect(outcome.reason).toBeInstanceOf(StorkConfigError);
      expect((outcome.reason as Error).message).toContain('given');
      return;
    }
    const message = (await raw().deadLetters(queue, 1))[0]!;
    const got = message.headers['given'];
    if (what === 'a Date') expect(got).toMatchObject({ '!': 'timestamp' });
    else if (value instanceof Uint8Array) expect(Buffer.from(got as Buffer)).toEqual(Buffer.from(value));
    else if (typeof value === 'bigint') expect(BigInt(got as number)).toBe(value);
    else expect(got).toEqual(value);
  });

  it('has the broker dead-letter an expired message', async () => {
    const { client, queue, close } = await startRabbitApp({
      controllers: [Probe],
      options: { queue: raw().queue() },
    });
    await close();
    const { client: other } = await sender();
    await expect(client.publish('probe', 1)).rejects.toMatchObject({ code: 'CLOSED' });
    await other.publish('probe', { n: 1 }, { to: { queue }, expiresInMs: 50, messageId: 'm-1' });
    const [deadLetter] = await raw().deadLetters(`${queue}.dlq`, 1);
    expect(deadLetter!.body).toBe('{"n":1}');
    expect(deadLetter!.message.properties.messageId).toBe('m-1');
    expect((deadLetter!.headers['x-death'] as { reason: string }[])[0]!.reason).toBe('expired');
  });

  it('writes the properties that other clients read', async () => {
    const queue = raw().queue();
    await raw().channel.assertQueue(queue);
    const { client } = await sender();
    const timestamp = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
    const options = { key: 'k', messageId: 'm', correlationId: 'c', appId: 'a', priority: 3, timestamp };
    await client.publish(
      'order.created',
      { n: 1 },
      { ...options, to: { queue }, headers: { tenant: 'blue' } },
    );
    const { properties } = (await raw().deadLetters(queue, 1))[0]!.message;
    expect(properties).toMatchObject({
      type: 'order.created',
      messageId: 'm',
      correlationId: 'c',
      appId: 'a',
      priority: 3,
      contentType: 'application/json',
      deliveryMode: 2,
      timestamp: Math.floor(timestamp / 1_000),
      replyTo: undefined,
      expiration: undefined,
    });
    expect(properties.headers).toMatchObject({ 'stork-key': 'k', tenant: 'blue' });
  });

  describe('delayed', () => {
    /** When each message arrived, and with which properties. */
    async function arrivals(queue: string): Promise<Seen<{ at: number; message: ConsumeMessage }>> {
      const seen = new Seen<{ at: number; message: ConsumeMessage }>();
      const { consumerTag } = await raw().channel.consume(
        queue,
        (message) => void (message && seen.add({ at: Date.now(), message })),
        { noAck: true },
      );
      onTestFinished(async () => void (await raw().channel.cancel(consumerTag)));
      return seen;
    }

    it('never arrives early in a queue, and at most one delay step late', async () => {
      const queue = raw().queue();
      for (const ms of [100, 200, 500]) raw().delayed(queue, ms);
      await raw().channel.assertQueue(queue);
      const seen = await arrivals(queue);
      const { client } = await sender();
      const delays = [0, 1, 100, 150, 200, 250, 500];
      const due = new Map<string, number>();
      await Promise.all(
        delays.map((delayMs) => {
          due.set(String(delayMs), Date.now() + delayMs);
          return client.publish('p', delayMs, { to: { queue }, delayMs });
        }),
      );
      for (const { at, message } of await seen.count(delays.length))
        expect(at).toBeGreaterThanOrEqual(due.get(message.content.toString())!);
    });

    it('keeps the routing key through an exchange', async () => {
      const queue = raw().queue();
      const exchange = raw().exchange();
      raw().delayed(exchange, 100);
      await raw().channel.assertQueue(queue);
      await raw().channel.assertExchange(exchange, 'topic');
      await raw().channel.bindQueue(queue, exchange, 'order.*');
      const seen = await arrivals(queue);
      const { client } = await sender();
      await client.publish('order.created', 1, { to: { exchange }, delayMs: 100 });
      await client.publish('p', 2, { to: { exchange, routingKey: 'order.paid' }, delayMs: 100 });
      const fields = (await seen.count(2)).map(({ message }) => message.fields);
      expect(fields.map(({ routingKey }) => routingKey)).toEqual(['order.created', 'order.paid']);
      expect(fields.map(({ exchange: name }) => name)).toEqual([exchange, exchange]);
    });

    it('distinguishes a queue and an exchange of the same name', async () => {
      const name = raw().queue();
      raw().exchange(name);
      raw().delayed(name, 100);
      await raw().channel.assertQueue(name);
      await raw().channel.assertExchange(name, 'fanout');
      await raw().channel.bindQueue(name, name, '');
      const seen = await arrivals(name);
      const { client } = await sender();
      await client.publish('p', 1, { to: { queue: name }, delayMs: 100 });
      await client.publish('p', 2, { to: { exchange: name }, delayMs: 100 });
      // They waited in two delay queues: either may arrive first.
      const came = (await seen.count(2)).map(({ message }) => message.content.toString());
      expect(came.toSorted()).toEqual(['1', '2']);
    });

    it('declares its delay queue again after it was deleted, as on expiry', async () => {
      const queue = raw().queue();
      const delay = raw().delayed(queue, 100);
      await raw().channel.assertQueue(queue);
      const seen = await arrivals(queue);
      const { client } = await sender();
      await client.publish('p', 1, { to: { queue }, delayMs: 100 });
      await seen.count(1);
      // Deleting a queue that does not exist is no error in RabbitMQ.
      await raw().with((channel) => channel.checkQueue(delay));
      await raw().channel.deleteQueue(delay);
      await client.publish('p', 2, { to: { queue }, delayMs: 100 });
      await seen.count(2);
    });

    it('is refused if it would arrive early', async () => {
      const queue = raw().queue();
      raw().delayed(queue, 86_400_000);
      await raw().channel.assertQueue(queue);
      const { client } = await sender();
      await expect(client.publish('p', 1, { to: { queue }, delayMs: 2 * 86_400_000 })).rejects.toBeInstanceOf(
        StorkConfigError,
      );
    });

    it('rejects with a named error when the connection is lost, and works afterwards', async () => {
      const proxy = await startStallingProxy(url!);
      onTestFinished(() => proxy.close());
      const queue = raw().queue();
      for (const ms of [100, 200, 500]) raw().delayed(queue, ms);
      await raw().channel.assertQueue(queue);
      const { client } = await sender({ url: proxy.url });
      const sent = [100, 200, 500].map((delayMs) => client.publish('p', 1, { to: { queue }, delayMs }));
      setTimeout(() => proxy.cut(), 2);
      for (const outcome of await Promise.allSettled(sent))
        if (outcome.status === 'rejected') expect(outcome.reason).toSatisfy(isStorkError);
      proxy.cut();
      const away = client.publish('p', 2, { to: { queue }, delayMs: 100 });
      const [outcome] = await Promise.allSettled([away]);
      if (outcome.status === 'rejected') expect(outcome.reason).toSatisfy(isStorkError);
      await eventually(
        async () =>
          client.publish('p', 3, { to: { queue }, delayMs: 100 }).then(
            () => true,
            () => undefined,
          ),
        'a delayed publish',
      );
    });
  });
});

@Controller()
class Probe {
  @EventPattern<string>('probe')
  probe(): void {}
}

describe.skipIf(url === undefined)('RabbitMQ: exchanges', () => {
  const raw = useRaw();
  const seen = new Map<string, Seen<string>>();
  const note = (exchange: string, text: string): void => seen.get(exchange)!.add(text);

  @Controller()
  class Orders {
    @EventPattern<string>('order.created')
    created(@Payload() exchange: string, @Ctx() context: StorkContext): void {
      note(exchange, `created ${context.pattern}`);
    }
    @EventPattern<string>('order.paid')
    paid(@Payload() exchange: string, @Ctx() context: StorkContext): void {
      note(exchange, `paid ${context.pattern}`);
    }
  }

  @Controller()
  class Wild {
    @EventPattern<string>('order.*')
    one(@Payload() exchange: string, @Ctx() context: StorkContext): void {
      note(exchange, `* ${context.pattern}`);
    }
    @EventPattern<string>('bill.#')
    any(@Payload() exchange: string, @Ctx() context: StorkContext): void {
      note(exchange, `# ${context.pattern}`);
    }
  }

  @Controller()
  class Expression {
    @EventPattern(/^order\..*$/)
    any(@Payload() exchange: string, @Ctx() context: StorkContext): void {
      note(exchange, `/ ${context.pattern}`);
    }
  }

  @Controller()
  class LongExpression {
    @EventPattern(new RegExp(`^(order|${'x'.repeat(300)})\\.created$`))
    any(@Payload() exchange: string, @Ctx() context: StorkContext): void {
      note(exchange, `/ ${context.pattern}`);
    }
  }

  async function start(type: 'direct' | 'topic' | 'fanout', controllers: (typeof Orders)[]) {
    const name = raw().exchange();
    const seenHere = new Seen<string>();
    seen.set(name, seenHere);
    const options = { queue: raw().queue(), exchange: { name, type } };
    const app = await startRabbitApp({ controllers, options });
    return { ...app, name, seenHere };
  }

  it.each(['direct', 'topic', 'fanout'] as const)('binds every pattern to a %s exchange', async (type) => {
    const { client, name, seenHere } = await start(type, [Orders]);
    await client.publish('order.created', name);
    await client.publish('order.paid', name);
    expect([...(await seenHere.count(2))].toSorted()).toEqual(['created order.created', 'paid order.paid']);
    if (type !== 'fanout')
      await expect(client.publish('order.lost', name)).rejects.toMatchObject({ code: 'NO_ROUTE' });
  });

  it('binds wildcards to a topic exchange', async () => {
    const { client, name, seenHere } = await start('topic', [Wild as never]);
    for (const pattern of ['order.a', 'bill', 'bill.a.b']) await client.publish(pattern, name);
    expect([...(await seenHere.count(3))].toSorted()).toEqual(['# bill', '# bill.a.b', '* order.a']);
    await expect(client.publish('order.a.b', name)).rejects.toMatchObject({ code: 'NO_ROUTE' });
  });

  it('accepts regular expressions on a fanout exchange, however long', async () => {
    const { client, name, seenHere } = await start('fanout', [Expression as never]);
    await client.publish('order.created', name);
    expect(await seenHere.count(1)).toEqual(['/ order.created']);
    const long = await start('fanout', [LongExpression as never]);
    await long.client.publish('order.created', long.name);
    expect(await long.seenHere.count(1)).toEqual(['/ order.created']);
  });

  it.each([
    ['direct', Wild, 'order.*'],
    ['direct', Expression, 'order'],
    ['topic', Expression, 'order'],
  ] as const)('refuses at boot what a %s exchange cannot bind', async (type, controller, named) => {
    const name = raw().exchange();
    const { error } = await refusal({
      controllers: [controller],
      options: { queue: raw().queue(), exchange: { name, type } },
    });
    expect(error).toBeInstanceOf(StorkConfigError);
    expect(error.message).toContain(named);
    expect(error.message).toContain(type);
  });
});
