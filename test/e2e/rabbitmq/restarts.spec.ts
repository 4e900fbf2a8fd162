import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { describe, expect, it } from 'vitest';
import { eventually, Gate, Seen } from '../../contract/app.js';
import { startRabbitApp, url, useRaw } from './support.js';

const started = new Seen<number>();
const finished = new Seen<number>();
let gate = new Gate();

@Controller()
class Worker {
  @EventPattern<string>('job')
  async job(@Payload() n: number): Promise<void> {
    started.add(n);
    await gate.opened;
    finished.add(n);
  }
}

describe.skipIf(url === undefined)('RabbitMQ: a consumer that is restarted repeatedly', () => {
  const raw = useRaw();

  it('25 times with 50 messages in flight dead-letters none of them and loses none', async () => {
    const queue = raw().queue();
    const count = 50;
    // The broker counts messages that a restart requeues: RabbitMQ's default limit of 20 would be exceeded.
    const options = { queue, concurrency: count, prefetch: count };
    const module = { drainTimeoutMs: 1 };
    const start = () => startRabbitApp({ controllers: [Worker], options, module });
    for (let restart = 0; restart < 25; restart++) {
      gate = new Gate();
      const before = started.all.length;
      const { close } = await start();
      if (restart === 0) {
        for (let n = 0; n < count; n++)
          raw().channel.sendToQueue(queue, Buffer.from(String(n)), {
            type: 'job',
            contentType: 'application/json',
          });
        await raw().confirmed();
      }
      await started.count(before + count);
      await close();
      gate.open();
    }
    expect(await raw().count(`${queue}.dlq`)).toBe(0);
    finished.all.length = 0;
    await start();
    await eventually(async () => (finished.all.length >= count ? true : undefined), 'all to be handled');
    expect(finished.all.toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, n) => n));
    expect(await raw().count(`${queue}.dlq`)).toBe(0);
  });
});
