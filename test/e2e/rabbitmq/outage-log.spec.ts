import { Controller, Logger } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { afterEach, expect, it } from 'vitest';
import { eventually, Seen } from '../../contract/app.js';
import { LogLines } from '../support.js';
import { startRabbitApp, url, useRaw } from './support.js';

const handled = new Seen<string>();

@Controller()
class Worker {
  @EventPattern<string>('job')
  job(@Payload() queue: string): void {
    handled.add(queue);
  }
}

const raw = useRaw();
afterEach(() => Logger.overrideLogger(true));

it.skipIf(url === undefined)(
  'the log names each reason why a consumer is away, and its return',
  { timeout: 120_000 },
  async () => {
    const queue = raw().queue();
    const logs = new LogLines();
    const { client } = await startRabbitApp({ controllers: [Worker], options: { queue }, logger: logs });
    const logged = (...texts: string[]) =>
      eventually(
        async () => logs.lines.find((line) => texts.every((text) => line.includes(text))),
        `a line with ${texts.join(', ')}`,
      );
    await raw().with((channel) => channel.deleteQueue(queue));
    // It is declared again by whoever is first: the consumer, or this test with other arguments.
    const differs = (): Promise<unknown> =>
      raw().with((channel) =>
        channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'classic' } }),
      );
    await eventually(async () => {
      if (
        await differs().then(
          () => true,
          () => false,
        )
      )
        return true;
      await raw().with((channel) => channel.deleteQueue(queue));
      return undefined;
    }, 'a queue with other arguments');
    await logged('consumer', 'cancelled the consumer', queue);
    await logged('consumer', 'inequivalent arg');
    expect(logs.containing('the connection was lost')).toEqual([]);
    await raw().with((channel) => channel.deleteQueue(queue));
    await logged('consumer: the channel is open again');
    await client.publish('job', queue);
    await eventually(async () => (handled.all.includes(queue) ? true : undefined), 'the message');
    expect(logs.containing('inequivalent arg')).toHaveLength(1);
  },
);
