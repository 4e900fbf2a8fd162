import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { finalize, interval, type Observable } from 'rxjs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { eventually, Seen } from '../../contract/app.js';
import { startProxy } from '../../support/tcp-proxy.js';
import { crashesDuring, startRabbitApp, url, useRaw } from './support.js';

const begun = new Seen<string>();
const handled = new Seen<string>();

@Controller()
class Worker {
  @EventPattern<string>('endless')
  endless(@Payload() queue: string): Observable<number> {
    begun.add(queue);
    return interval(20).pipe(
      finalize(() => {
        throw new Error('the teardown failed');
      }),
    );
  }
  @EventPattern<string>('good')
  good(@Payload() queue: string): void {
    handled.add(queue);
  }
}

describe.skipIf(url === undefined)('RabbitMQ: a stream whose teardown throws', () => {
  const raw = useRaw();

  it.each(['link', 'queue'] as const)('outlives the loss of its %s: consuming continues', async (loss) => {
    const target = new URL(url!);
    const proxy = await startProxy({ host: target.hostname, port: Number(target.port) });
    onTestFinished(() => proxy.close());
    target.port = String(proxy.port);
    const queue = raw().queue();
    const crashes = await crashesDuring(async () => {
      const options = { queue, url: target.href };
      const module = { drainTimeoutMs: 1_000 };
      const { client, close } = await startRabbitApp({ controllers: [Worker], options, module });
      await client.publish('endless', queue);
      await eventually(async () => (begun.all.includes(queue) ? true : undefined), 'the stream');
      if (loss === 'link') proxy.cut();
      else await raw().channel.deleteQueue(queue);
      // Repeated: a message that was published before the queue was declared again has no queue.
      await eventually(async () => {
        await client.publish('good', queue).catch(() => {});
        return handled.all.includes(queue) ? true : undefined;
      }, 'a message behind it');
      await close();
    });
    expect(crashes).toEqual([]);
  });
});
