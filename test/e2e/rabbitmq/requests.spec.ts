import { randomBytes, randomUUID } from 'node:crypto';
import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import type { ConsumeMessage, Options } from 'amqplib';
import { of } from 'rxjs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { StorkContext } from 'nestjs-stork';
import { eventually, Seen } from '../../contract/app.js';
import { crashesDuring, forge, Raw, startRabbitApp, url, useRaw } from './support.js';

const contexts = new Seen<StorkContext>();
let doubled = 0;

@Controller()
class Calculator {
  @MessagePattern('double')
  double(@Payload() n: number): number {
    doubled++;
    return n * 2;
  }
  @MessagePattern('fail')
  fail(): never {
    throw new RpcException({ code: 'NO_WAY', message: 'no way' });
  }
  @MessagePattern('stream')
  stream() {
    return of('a', 'b', 'c');
  }
  @EventPattern<string>('event')
  event(@Ctx() context: StorkContext): void {
    contexts.add(context);
  }
}

describe.skipIf(url === undefined)('RabbitMQ: requests', () => {
  const raw = useRaw();
  const start = (options = {}) =>
    startRabbitApp({ controllers: [Calculator], options: { queue: raw().queue(), ...options } });

  async function foreign(): Promise<Raw> {
    const program = new Raw(url!);
    await program.open();
    onTestFinished(() => program.close());
    return program;
  }

  it('survive forged direct-reply addresses, among valid ones', async () => {
    const { client, queue, counts, service } = await start();
    const forged = [
      'amq.rabbitmq.reply-to.garbage',
      'amq.rabbitmq.reply-to.',
      'amq.rabbitmq.reply-to.a.b.c',
      `amq.rabbitmq.reply-to.${randomBytes(30).toString('base64')}.${randomBytes(16).toString('base64')}==`,
      `amq.rabbitmq.reply-to.g1h${randomBytes(40).toString('base64')}.${randomBytes(16).toString('base64')}`,
      `amq.rabbitmq.reply-to.${'x'.repeat(230)}`,
      `amq.gen-${randomUUID()}`,
    ];
    const crashes = await crashesDuring(async () => {
      const answers: Promise<number>[] = [];
      for (const [n, replyTo] of forged.entries()) {
        for (let i = 0; i < 5; i++) answers.push(client.request<number>('double', n));
        raw().channel.publish('', queue, Buffer.from('1'), { type: 'double', replyTo, messageId: `f-${n}` });
      }
      expect(await Promise.all(answers)).toEqual(
        forged.flatMap((_, n) => Array.from({ length: 5 }, () => n * 2)),
      );
      await eventually(
        async () => (service.state()['main']!.inFlight === 0 ? true : undefined),
        'nothing in flight',
      );
    });
    expect(crashes).toEqual([]);
    expect(counts()['reply-undeliverable']).toBeGreaterThan(0);
    expect(await client.request('double', 21)).toBe(42);
    expect(await raw().count(`${queue}.dlq`)).toBe(0);
  });

  it.each(['direct reply-to', 'an exclusive queue'])('answer a foreign client by %s', async (way) => {
    const { queue } = await start();
    const { channel } = await foreign();
    const replies = new Seen<ConsumeMessage>();
    const take = (message: ConsumeMessage | null): void => void (message && replies.add(message));
    let replyTo = 'amq.rabbitmq.reply-to';
    if (way === 'an exclusive queue') replyTo = (await channel.assertQueue('', { exclusive: true })).queue;
    await channel.consume(replyTo, take, { noAck: true });
    const ask = (type: string, options: Options.Publish = {}): void =>
      void channel.publish('', queue, Buffer.from('4'), { type, replyTo, ...options });
    ask('double', { correlationId: 'c-1', contentType: 'application/json' });
    await replies.count(1);
    ask('fail', { correlationId: 'c-2' });
    await replies.count(2);
    ask('no.such', { correlationId: 'c-3' });
    await replies.count(3);
    ask('stream', { correlationId: 'c-4' });
    const all = (await replies.count(7)).map(({ content, properties }) => ({
      id: properties.correlationId as unknown,
      kind: properties.headers?.['stork-reply'] as unknown,
      body: content.length === 0 ? undefined : (JSON.parse(content.toString()) as unknown),
    }));
    expect(all[0]).toEqual({ id: 'c-1', kind: undefined, body: 8 });
    expect(all[1]).toMatchObject({
      id: 'c-2',
      kind: 'error',
      body: { code: 'NO_WAY', message: 'no way', retryable: expect.any(Boolean) as boolean },
    });
    expect(all[2]).toMatchObject({ id: 'c-3', kind: 'error', body: { code: 'NO_HANDLER' } });
    expect(all.slice(3)).toEqual([
      { id: 'c-4', kind: 'item', body: 'a' },
      { id: 'c-4', kind: 'item', body: 'b' },
      { id: 'c-4', kind: 'item', body: 'c' },
      { id: 'c-4', kind: 'end', body: undefined },
    ]);
  });

  it('are answered to a named queue only if it is on the list', async () => {
    const replyTo = raw().queue();
    await raw().channel.assertQueue(replyTo);
    const [open, shut] = [await start({ replyQueues: [replyTo] }), await start()];
    for (const { queue } of [open, shut])
      raw().channel.publish('', queue, Buffer.from('4'), { type: 'double', replyTo, correlationId: queue });
    const [reply] = await raw().deadLetters(replyTo, 1);
    expect(reply!.message.properties.correlationId).toBe(open.queue);
    await raw().deadLetters(`${shut.queue}.dlq`, 1);
    expect(await raw().count(replyTo)).toBe(1);
  });

  it('count as done if the listed reply queue was deleted', async () => {
    const replyTo = `${raw().queue()}.gone`;
    const { queue, counts, client } = await start({ replyQueues: [replyTo] });
    raw().channel.publish('', queue, Buffer.from('4'), { type: 'double', replyTo, correlationId: 'c' });
    await eventually(async () => counts()['reply-undeliverable'], 'the lost reply');
    expect(await client.request('double', 1)).toBe(2);
  });

  it('whose correlation id is not UTF-8 are handled once', async () => {
    const { queue, counts, service } = await start();
    const program = await foreign();
    const marker = 'C'.repeat(200);
    const replyTo = (await program.channel.assertQueue('', { exclusive: true })).queue;
    forge(program, Buffer.from(marker), Buffer.alloc(200, 0xff));
    const before = doubled;
    const options = { type: 'double', replyTo, correlationId: marker };
    program.channel.publish('', queue, Buffer.from('4'), options);
    await program.confirmed();
    await eventually(async () => counts()['handled'], 'the attempt');
    await eventually(
      async () => (service.state()['main']!.inFlight === 0 ? true : undefined),
      'the settlement',
    );
    expect(counts()['requeued']).toBeUndefined();
    expect(doubled - before).toBe(1);
  });

  it('and events of other clients are read whatever the types of their properties', async () => {
    const { queue } = await start();
    const from = contexts.all.length;
    const send = (options: Options.Publish): void =>
      void raw().channel.publish('', queue, Buffer.from('{"n":1}'), { type: 'event', ...options });
    send({ messageId: '', correlationId: '', contentType: '', contentEncoding: 'utf-8' });
    send({ messageId: 'ü'.repeat(127), correlationId: '\0', contentEncoding: 'UTF8', timestamp: 0 });
    send({ timestamp: 1_700_000_000, contentType: 'APPLICATION/JSON;charset=utf-8', replyTo: '' });
    send({ timestamp: 1_700_000_000_000, appId: '', headers: { 'stork-attempt': 7, 'stork-handler': 3 } });
    send({ headers: { 'stork-origin-routing-key': 'event' }, type: '' });
    const all = (await contexts.count(from + 5)).slice(from);
    expect(all.map(({ messageId }) => messageId)).toEqual([
      undefined,
      'ü'.repeat(127),
      undefined,
      undefined,
      undefined,
    ]);
    expect(all.map(({ timestamp }) => timestamp)).toEqual([
      undefined,
      0,
      1_700_000_000_000,
      1_700_000_000_000_000,
      undefined,
    ]);
    expect(all.map(({ pattern }) => pattern)).toEqual(['event', 'event', 'event', 'event', 'event']);
    expect(await raw().count(`${queue}.dlq`)).toBe(0);
  });

  it('that are the first to an exchange ask once whether it exists, more of them than there are channels', async () => {
    const { client } = await startRabbitApp({
      controllers: [Calculator],
      options: {
        queue: raw().queue(),
        exchange: { name: raw().exchange(), type: 'topic' },
        concurrency: 100,
      },
    });
    const requests = Array.from({ length: 2_100 }, () => client.request('double', 1, { timeoutMs: 60_000 }));
    expect(new Set(await Promise.all(requests))).toEqual(new Set([2]));
  });

  it('to a missing exchange fail no other request', async () => {
    const { client } = await start();
    await client.request('double', 1);
    const pending = Array.from({ length: 20 }, (_, n) => client.request<number>('double', n));
    const [bad, ...outcomes] = await Promise.allSettled([
      client.request('double', 1, { to: { exchange: 'no.such' } }),
      ...pending,
    ]);
    expect(bad).toMatchObject({ reason: { code: 'NO_ROUTE' } });
    for (const one of outcomes) expect(one).toMatchObject({ status: 'fulfilled' });
    await eventually(
      async () =>
        client.request<number>('double', 3).then(
          () => true,
          () => undefined,
        ),
      'a request',
    );
  });
});
