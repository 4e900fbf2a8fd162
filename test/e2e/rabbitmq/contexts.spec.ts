import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload, RmqContext } from '@nestjs/microservices';
import type { Channel, Message } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { Consume } from 'nestjs-stork';
import type { RabbitMqContext } from 'nestjs-stork/rabbitmq';
import { Seen } from '../../contract/app.js';
import { startRabbitApp, url, useRaw } from './support.js';

describe.skipIf(url === undefined)("RabbitMQ: code written for Nest's RmqContext", () => {
  const raw = useRaw();

  function handlers() {
    const seen = new Seen<string>();
    const problems = new Seen<string>();
    const attempt = (work: () => void): void => {
      try {
        work();
      } catch (error) {
        problems.add(String(error));
      }
    };
    let refused: Message | undefined;
    @Controller()
    class Jobs {
      @EventPattern<string>('ack')
      @Consume({ delivery: 'manual' })
      ack(@Payload() data: string, @Ctx() context: RmqContext): void {
        const channel = context.getChannelRef() as Channel;
        const message = context.getMessage() as Message;
        refused ??= message;
        seen.add(`${context.getPattern()} ${data} ${message.properties.type} ${message.fields.routingKey}`);
        attempt(() => channel.ack(message, true));
        attempt(() => channel.ack({ ...message }));
        channel.ack(message);
      }
      @EventPattern<string>('nack')
      @Consume({ delivery: 'manual' })
      nack(@Payload() data: string, @Ctx() context: RmqContext): void {
        const channel = context.getChannelRef() as Channel;
        const message = context.getMessage() as Message;
        seen.add(`nack ${data} ${message.fields.redelivered}`);
        if (message.fields.redelivered) channel.nack(message, false, false);
        else channel.nack(message);
      }
      @EventPattern<string>('reject')
      @Consume({ delivery: 'manual' })
      reject(@Payload() data: string, @Ctx() context: RmqContext): void {
        seen.add(`reject ${data}`);
        const channel = context.getChannelRef() as Channel;
        attempt(() => channel.reject(refused!, false));
        channel.reject(context.getMessage() as Message, false);
      }
    }
    return { Jobs, seen, problems };
  }

  it('settles its message by getChannelRef(), and refuses what would settle others', async () => {
    const { Jobs, seen, problems } = handlers();
    const { client, queue, counts } = await startRabbitApp({
      controllers: [Jobs],
      options: { queue: raw().queue() },
    });
    await client.publish('ack', 'a');
    await seen.count(1);
    await client.publish('nack', 'b');
    await seen.count(3);
    await client.publish('reject', 'c');
    expect(await seen.count(4)).toEqual([`ack a ack ${queue}`, 'nack b false', 'nack b true', 'reject c']);
    await expect.poll(() => raw().count(`${queue}.dlq`)).toBe(2);
    await expect.poll(() => counts()).toMatchObject({ handled: 1, 'dead-lettered': 2, requeued: 1 });
    expect(problems.all).toEqual([
      expect.stringContaining('leave allUpTo out'),
      expect.stringContaining('settles only its own message'),
      expect.stringContaining('settles only its own message'),
    ]);
  });

  it('reads a timestamp in a header as text', async () => {
    const times = new Seen<string | undefined>();
    @Controller()
    class Jobs {
      @EventPattern<string>('job')
      job(@Ctx() context: RabbitMqContext): void {
        times.add(context.header('at'));
        times.add(context.header('price'));
      }
    }
    const { queue } = await startRabbitApp({ controllers: [Jobs], options: { queue: raw().queue() } });
    raw().channel.publish('', queue, Buffer.from('{}'), {
      type: 'job',
      headers: {
        at: { '!': 'timestamp', value: 1_767_323_045 },
        price: { '!': 'decimal', value: { places: 2, digits: 199 } },
      },
    });
    expect(await times.count(2)).toEqual(['2026-01-02T03:04:05.000Z', undefined]);
  });
});
