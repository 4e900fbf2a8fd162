import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import type { Channel, ConsumeMessage, Options } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { inboundMessage } from '../../../lib/rabbitmq/publish/messages.js';
import { eventually, Seen } from '../../contract/app.js';
import {
  bodies,
  discard,
  fillDeadLetterQueue,
  headersOf,
  list,
  openStore,
  replay,
  takeAll,
  upTo,
} from './dead-letter-queues.js';
import { startRabbitApp, url, useRaw } from './support.js';

const handled = new Seen<unknown>();

@Controller()
class Orders {
  @EventPattern<string>('order.*')
  order(@Payload() body: unknown): void {
    handled.add(body);
  }
}

/** Takes one after the other, `times` in all. */
async function refuse(channel: Channel, queue: string, times: number, requeue: boolean): Promise<void> {
  await channel.prefetch(1);
  await new Promise<void>((resolve, reject) => {
    let left = times;
    const take = (message: ConsumeMessage | null): void => {
      channel.nack(message!, false, requeue);
      if (--left === 0) resolve();
    };
    channel.consume(queue, take).catch(reject);
  });
}

interface DeadLetterCause {
  readonly reason: string;
  readonly args: Record<string, unknown>;
  readonly options?: Options.Publish;
  readonly kill: (channel: Channel, queue: string) => Promise<unknown>;
}

describe.skipIf(url === undefined)('RabbitMQ: messages dead-lettered by the broker', () => {
  const raw = useRaw();

  it.each<DeadLetterCause>([
    { reason: 'expired', args: {}, options: { expiration: '1' }, kill: async () => {} },
    { reason: 'rejected', args: {}, kill: (channel, queue) => refuse(channel, queue, 1, false) },
    {
      reason: 'delivery-limit',
      args: { 'x-delivery-limit': 2 },
      kill: (channel, queue) => refuse(channel, queue, 3, true),
    },
    {
      reason: 'max-length',
      args: { 'x-max-length': 1 },
      kill: async (channel, queue) => channel.sendToQueue(queue, Buffer.from('newer')),
    },
  ])('$reason are shown with their reason, and go back with the pattern they had', async (death) => {
    const queue = raw().queue();
    const dlq = `${queue}.dlq`;
    const exchange = raw().exchange();
    const { channel } = raw();
    await channel.assertExchange(exchange, 'topic', { durable: true });
    await channel.assertQueue(dlq, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    const target = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dlq };
    const args = { 'x-queue-type': 'quorum', ...target, ...death.args };
    await channel.assertQueue(queue, { durable: true, arguments: args });
    await channel.bindQueue(queue, exchange, 'order.*');
    const headers = { tenant: 'blue' };
    const began = Date.now();
    channel.publish(exchange, 'order.made', Buffer.from('{}'), { messageId: 'm', ...death.options, headers });
    await raw().confirmed();
    await raw().with((own) => death.kill(own, queue));
    await eventually(async () => ((await raw().count(dlq)) === 1 ? true : undefined), 'the dead letter');
    await takeAll(raw(), queue);

    const store = await openStore({ queue });
    const [deadLetter] = await list(store);
    expect(deadLetter).toMatchObject({ reason: death.reason, source: queue, pattern: 'order.made' });
    expect(Math.abs(deadLetter!.failedAt!.getTime() - began)).toBeLessThan(10_000);
    expect(await list(store)).toMatchObject([{ id: deadLetter!.id }]);
    expect(await replay(store)).toMatchObject({ done: 1, byReason: { [death.reason]: 1 } });
    const [back] = await takeAll(raw(), queue);
    expect(back!.properties).toMatchObject({ messageId: 'm', expiration: undefined });
    expect(headersOf(back!)).toEqual({
      tenant: 'blue',
      'stork-origin': queue,
      'stork-origin-exchange': exchange,
      'stork-origin-routing-key': 'order.made',
      'stork-replay-count': '1',
    });
    expect(inboundMessage(back!, queue, 'stork-key').patterns[0]).toBe('order.made');
    expect(await raw().count(dlq)).toBe(0);
  });

  it('reach the handler of the pattern that they had', async () => {
    const queue = raw().queue();
    const exchange = { name: raw().exchange(), type: 'topic' as const };
    const first = await startRabbitApp({ controllers: [Orders], options: { queue, exchange } });
    await first.close();
    const body = { queue };
    const options = { expiration: '1', contentType: 'application/json' };
    raw().channel.publish(exchange.name, 'order.made', Buffer.from(JSON.stringify(body)), options);
    const store = await openStore({ queue });
    await eventually(async () => ((await store.count()) === 1 ? true : undefined), 'the dead letter');
    expect(await list(store)).toMatchObject([{ reason: 'expired', pattern: 'order.made' }]);
    expect(await replay(store)).toMatchObject({ done: 1 });
    await startRabbitApp({ controllers: [Orders], options: { queue, exchange } });
    await eventually(async () => (handled.all.length === 1 ? true : undefined), 'the handler');
    expect(handled.all).toEqual([body]);
  });

  it.each<[string, Record<string, unknown>, number | undefined]>([
    ['as it is said', { 'x-delivery-limit': 8 }, 8],
    ['as RabbitMQ 4 has it', {}, undefined],
  ])('are not browsed until their queue drops them, by the limit %s', async (_, args, deliveryLimit) => {
    const queue = raw().queue();
    const dlq = `${queue}.dlq`;
    for (const name of [queue, dlq])
      await raw().channel.assertQueue(name, { arguments: { 'x-queue-type': 'quorum', ...args } });
    const deadLetters = ['0', '1', '2'];
    for (const body of deadLetters)
      raw().channel.sendToQueue(dlq, Buffer.from(body), { messageId: body, headers: { kept: body } });
    await raw().confirmed();
    const store = await openStore({ queue }, { deliveryLimit });
    const [, warned] = await store.warnings();
    const limit = /may drop a dead letter at its delivery (\d+)/.exec(warned ?? '')?.[1];
    // RabbitMQ 3 has no limit but one that is asked for.
    if (deliveryLimit === undefined && limit === undefined) {
      for (let i = 0; i < 25; i++) expect(bodies(await list(store))).toEqual(deadLetters);
      return;
    }
    expect(limit).toBe(deliveryLimit === undefined ? '21' : '9');
    const browses = deliveryLimit === undefined ? 15 : 6;
    for (let i = 0; i < browses; i++) expect(bodies(await list(store))).toEqual(deadLetters);
    await expect(list(store)).rejects.toThrow(`to browse "${dlq}"`);
    await expect(list(store)).rejects.toThrow(`a dead letter that was delivered ${browses + 1} times`);
    // Even if the warning is ignored, no message is lost.
    for (let i = 0; i < 40; i++) await list(store).catch(() => []);
    await eventually(async () => ((await raw().count(dlq)) === 3 ? true : undefined), 'all to be back');
    expect(await discard(store)).toMatchObject({ done: 3 });
    expect(await raw().count(dlq)).toBe(0);
  });

  it('are browsed without limit if stork declared the queue', async () => {
    const { queue } = await fillDeadLetterQueue(raw(), 3);
    const store = await openStore({ queue });
    expect((await store.warnings()).join()).not.toContain('was not declared by stork');
    for (let i = 0; i < 25; i++) expect(bodies(await list(store))).toEqual(upTo(3));
  });
});
