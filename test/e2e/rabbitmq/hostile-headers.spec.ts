import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import type { ConfirmChannel, ConsumeMessage } from 'amqplib';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Retry, StorkContext } from 'nestjs-stork';
import { eventually, Seen } from '../../contract/app.js';
import { float, header, integer, nested, publishRaw, sized } from '../../support/amqp-bytes.js';
import { hostileMessages, sendHostile, type HostileMessage } from '../../support/hostile-messages.js';
import { startRewritingProxy, type RewritingProxy } from '../../support/rewriting-proxy.js';
import {
  bodies,
  discard,
  fillDeadLetterQueue,
  list,
  openStore,
  replay,
  takeAll,
} from './dead-letter-queues.js';
import { Raw, startRabbitApp, url, useRaw } from './support.js';

const seen = new Seen<{ queue: string }>();
const attempts = new Seen<{ readonly body: string; readonly context: StorkContext }>();
const retryDelayMs = 100;

@Controller()
class Worker {
  @EventPattern<string>('fine')
  fine(@Payload() body: { queue: string }): void {
    seen.add(body);
  }
  @EventPattern<string>('fail')
  fail(): never {
    throw new Error('no way');
  }
  /** Fails twice, and succeeds after a replay. */
  @Retry({ maxRetries: 0, redeliverDelaysMs: [retryDelayMs] })
  @EventPattern<string>('twice')
  twice(@Payload() body: string, @Ctx() context: StorkContext): void {
    attempts.add({ body, context });
    if (context.headers['stork-replay-count'] === undefined) throw new Error('not yet');
  }
  @Retry({ maxRetries: 0, redeliverDelaysMs: [retryDelayMs] })
  @MessagePattern('ask')
  ask(@Payload() body: string, @Ctx() context: StorkContext): string {
    if (context.attempt === 1) throw new Error('not yet');
    return `${body}, ${context.header('tenant')}`;
  }
}

const handled = (queue: string): number => seen.all.filter((one) => one.queue === queue).length;
const confirm = (raw: Raw): ConfirmChannel => raw.channel as ConfirmChannel;
const json = { contentType: 'application/json' };
const tenant = header('tenant', sized('S', 'blue'));

/** Headers that a copy has to do without, and no other ones. */
const oddHeaders: readonly { readonly name: string; readonly odd: Buffer }[] = [
  {
    name: 'an unknown one of stork with 65 300 characters',
    odd: header('stork-x', sized('S', 'x'.repeat(65_300))),
  },
  { name: 'a table with the name "!"', odd: header('odd', sized('F', header('!', sized('S', 'x')))) },
  { name: 'the timestamp 2^64 - 1', odd: header('odd', integer('T', 2n ** 64n - 1n)) },
  { name: 'lists nested 1 900 deep', odd: header('odd', nested('A', 1_900)) },
  { name: 'a name of 200 bytes that are not UTF-8', odd: header(Buffer.alloc(200, 0xff), integer('b', 1)) },
];

describe.skipIf(url === undefined)('RabbitMQ: hostile headers', () => {
  const raw = useRaw();

  async function proxied(): Promise<RewritingProxy> {
    const proxy = await startRewritingProxy(url!);
    onTestFinished(() => proxy.close());
    return proxy;
  }

  async function start(options = {}) {
    const queue = raw().queue();
    raw().queue(`${queue}.retry.${retryDelayMs}`);
    return startRabbitApp({ controllers: [Worker], options: { queue, ...options } });
  }

  async function sendFine(queue: string, count: number): Promise<void> {
    const body = Buffer.from(JSON.stringify({ queue }));
    for (let n = 0; n < count; n++) raw().channel.publish('', queue, body, { ...json, type: 'fine' });
    await raw().confirmed();
  }

  it.each(['quorum', 'classic'] as const)(
    'stop nothing on a %s queue: every hostile message is dead-lettered, the others are handled',
    async (queueType) => {
      const proxy = await proxied();
      const { queue, counts } = await start({ queueType, url: proxy.url });
      const { opened } = proxy;
      const send = (hostile: HostileMessage, type: string): Promise<void> =>
        sendHostile(confirm(raw()), queue, hostile, {
          body: Buffer.from(JSON.stringify(hostile.name)),
          ...json,
          type,
        });
      for (const hostile of hostileMessages) {
        await Promise.all([send(hostile, 'nobody'), send(hostile, 'fail')]);
        await sendFine(queue, 2);
      }
      await expect.poll(() => handled(queue)).toBe(hostileMessages.length * 2);
      const deadLetters = await raw().deadLetters(`${queue}.dlq`, hostileMessages.length * 2);
      const names = hostileMessages.map(({ name }) => JSON.stringify(name));
      expect(deadLetters.map(({ body }) => body).toSorted()).toEqual([...names, ...names].toSorted());
      for (const { isDecodable, name } of hostileMessages) {
        const reasons = deadLetters
          .filter(({ body }) => body === JSON.stringify(name))
          .map(({ headers }) => headers['stork-death-reason'] as string);
        if (!isDecodable && queueType === 'classic') expect(reasons).toEqual(['undecodable', 'undecodable']);
        if (isDecodable) expect(reasons, name).toContain('no-handler');
      }
      await expect.poll(() => counts()['dead-lettered']).toBe(hostileMessages.length * 2);
      expect(counts()['requeued']).toBeUndefined();
      // One more was opened at most, for the first reply or dead letter; none was lost.
      expect(proxy.opened - opened).toBeLessThanOrEqual(1);
    },
  );

  it('stop nothing where no handler has the type, and the shutdown is quick', async () => {
    const { queue, close } = await start();
    const big = { type: 'nobody', headers: header('stork-x', sized('S', 'x'.repeat(65_300))) };
    await publishRaw(confirm(raw()), queue, Buffer.from('{}'), { ...json, ...big });
    await sendFine(queue, 20);
    await expect.poll(() => handled(queue)).toBe(20);
    const [deadLetter] = await raw().deadLetters(`${queue}.dlq`, 1);
    expect(deadLetter!.headers).toMatchObject({ 'stork-death-reason': 'no-handler', 'stork-origin': queue });
    const began = performance.now();
    await close();
    expect(performance.now() - began).toBeLessThan(3_000);
  });

  it.each(oddHeaders)('are the only ones that a copy leaves out: $name', async ({ odd, name }) => {
    const { queue } = await start();
    const correlation = { correlationId: 'c-1', messageId: 'm-1', appId: 'shop', timestamp: 1_700_000_000n };
    const price = header('price', float('d', -1e300));
    const headers = Buffer.concat([tenant, odd, price]);
    await publishRaw(confirm(raw()), queue, Buffer.from(JSON.stringify(name)), {
      ...json,
      ...correlation,
      type: 'twice',
      headers,
    });
    const [deadLetter] = await raw().deadLetters(`${queue}.dlq`, 1);
    const { message, headers: written } = deadLetter!;
    const properties = { ...json, ...correlation, timestamp: 1_700_000_000, type: 'twice' };
    expect(message.properties).toMatchObject(properties);
    expect(written).toMatchObject({
      tenant: 'blue',
      price: -1e300,
      'stork-attempt': '2',
      'stork-handler': 'Worker.twice',
    });
    expect(written).not.toHaveProperty('odd');
    expect(written).not.toHaveProperty('stork-x');
    const store = await openStore({ queue });
    await eventually(
      async () => ((await store.count()) === 1 ? true : undefined),
      'the dead letter to be ready',
    );
    expect(await replay(store)).toMatchObject({ done: 1, skipped: 0 });
    const [first, second, third] = await eventually(async () => {
      const all = attempts.all.filter(({ body }) => body === name);
      return all.length === 3 ? all : undefined;
    }, 'the attempt after the replay');
    expect([first, second, third].map((one) => one!.context.attempt)).toEqual([1, 2, 1]);
    for (const { context } of [second!, third!]) {
      expect(context.headers).toMatchObject({ tenant: 'blue', price: -1e300 });
      expect((context.raw as ConsumeMessage).properties).toMatchObject(properties);
    }
  });

  /** A client of its own, with its replies. */
  async function caller() {
    const client = new Raw(url!);
    await client.open();
    onTestFinished(() => client.close());
    const replies = new Seen<ConsumeMessage>();
    await client.channel.consume('amq.rabbitmq.reply-to', (reply) => replies.add(reply!), { noAck: true });
    const ask = (queue: string, correlationId: string, headers: Buffer): Promise<void> => {
      const properties = { ...json, type: 'ask', correlationId, replyTo: 'amq.rabbitmq.reply-to', headers };
      return publishRaw(confirm(client), queue, Buffer.from('"yes"'), properties);
    };
    return { ask, replies };
  }

  it('leave a request its answer after a retry', async () => {
    const { queue } = await start();
    const { ask, replies } = await caller();
    for (const { name, odd } of oddHeaders) await ask(queue, name, Buffer.concat([odd, tenant]));
    await eventually(
      async () => (replies.all.length === oddHeaders.length ? true : undefined),
      'all replies',
    );
    expect(replies.all.map(({ properties }) => properties.correlationId as string).toSorted()).toEqual(
      oddHeaders.map(({ name }) => name).toSorted(),
    );
    for (const { content } of replies.all) expect(content.toString()).toBe('"yes, blue"');
  });

  it('that amqplib cannot decode make a request fail at once', async () => {
    const { queue } = await start();
    const { ask, replies } = await caller();
    await ask(queue, 'one', header('deep', nested('F', 9_000)));
    const [reply] = await eventually(
      async () => (replies.all.length === 1 ? replies.all : undefined),
      'the reply',
    );
    expect(reply!.properties.correlationId).toBe('one');
    expect(JSON.parse(reply!.content.toString())).toMatchObject({ code: 'UNDECODABLE', retryable: false });
    const [deadLetter] = await raw().deadLetters(`${queue}.dlq`, 1);
    expect(deadLetter!.body).toBe('"yes"');
    expect(deadLetter!.message.properties).toMatchObject({ ...json, type: 'ask', correlationId: 'one' });
    expect(deadLetter!.headers).toMatchObject({
      'stork-death-reason': 'undecodable',
      'stork-error-name': 'UndecodableHeadersError',
      'stork-origin': queue,
    });
  });

  it('that amqplib cannot decode make a reply an error, and the other replies arrive', async () => {
    const { client, queue } = await start();
    const server = raw().queue();
    await raw().channel.assertQueue(server);
    await raw().channel.consume(server, (message) => {
      const { replyTo, correlationId } = message!.properties as unknown as Record<string, string>;
      const odd = message!.properties.type === 'odd' ? integer('L', 7) : integer('l', 7);
      const properties = { ...json, correlationId: correlationId!, headers: header('n', odd) };
      void publishRaw(confirm(raw()), replyTo!, Buffer.from('1'), properties);
    });
    const ask = (pattern: string): Promise<unknown> => client.request(pattern, 1, { to: { queue: server } });
    const [odd, good] = await Promise.allSettled([ask('odd'), ask('good')]);
    expect(odd).toMatchObject({ status: 'rejected', reason: { code: 'UNDECODABLE' } });
    expect(good).toMatchObject({ status: 'fulfilled', value: 1 });
    expect(queue).not.toBe(server);
  });

  it('of dead letters that amqplib cannot decode hinder neither list nor replay nor discard', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 2);
    const send = (body: string): Promise<void> =>
      publishRaw(confirm(raw()), dlq, Buffer.from(body), {
        ...json,
        type: 'job',
        messageId: body,
        headers: header('deep', nested('F', 9_000)),
      });
    await send('replayed');
    await send('discarded');
    const store = await openStore({ queue });
    const listed = await list(store);
    expect(bodies(listed)).toEqual(['0', '1', 'replayed', 'discarded']);
    expect(listed[2]).toMatchObject({
      reason: 'unknown',
      source: queue,
      pattern: 'job',
      error: { name: 'UndecodableHeadersError' },
    });
    expect(await replay(store, { filter: { ids: [listed[2]!.id] } })).toMatchObject({
      done: 1,
      skipped: 0,
    });
    const [back] = await takeAll(raw(), queue);
    expect(back!.content.toString()).toBe('replayed');
    expect(back!.properties).toMatchObject({ ...json, type: 'job', messageId: 'replayed' });
    expect(back!.properties.headers).toMatchObject({ 'stork-origin': queue, 'stork-replay-count': '1' });
    expect(await discard(store, { filter: { ids: [listed[3]!.id] } })).toMatchObject({
      done: 1,
      skipped: 0,
    });
    expect(bodies(await list(store))).toEqual(['0', '1']);
  });
});
