import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import {
  Ctx,
  MessagePattern,
  Payload,
  RmqRecordBuilder,
  type ClientProxy,
  type RmqContext,
} from '@nestjs/microservices';
import type { Observable } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InjectClient } from 'nestjs-stork';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { reconnect, url, useRaw } from '../rabbitmq/support.js';
import { notifications, SumRoutes, Sums } from './sums.js';
import { manyLists, startHybrid, uniqueSource, type Hybrid } from './support.js';

/** Nothing listens there. */
const unreachable = 'amqp://127.0.0.1:1';

@Controller()
class Records {
  readonly #client: ClientProxy;
  readonly #severalUrls: ClientProxy;

  constructor(@InjectClient('main') client: ClientProxy, @InjectClient('several') severalUrls: ClientProxy) {
    this.#client = client;
    this.#severalUrls = severalUrls;
  }

  @Post('several-urls')
  @HttpCode(200)
  severalUrls(@Body() numbers: readonly number[]): Observable<number> {
    return this.#severalUrls.send({ cmd: 'sum' }, numbers);
  }
  @Post('record')
  @HttpCode(200)
  record(@Body() data: Record<string, unknown>): Observable<unknown> {
    const options = { headers: { 'x-version': '1.0.0' }, priority: 3 };
    return this.#client.send('record', new RmqRecordBuilder(data).setOptions(options).build());
  }
  @MessagePattern<string>('record')
  arrived(@Payload() data: unknown, @Ctx() context: RmqContext): unknown {
    const { headers, priority } = context.getMessage().properties as Record<string, unknown>;
    return { data, headers, priority };
  }
}

describe.skipIf(url === undefined)('Nest: sums over RabbitMQ', () => {
  const raw = useRaw();
  const numbers = [1, 2, 3, 4, 5];
  let hybrid: Hybrid;

  beforeAll(async () => {
    const queue = raw().queue(uniqueSource());
    const socket = { noDelay: true };
    hybrid = await startHybrid({
      stork: {
        transports: {
          main: rabbitmq({ url, queue, socket, reconnect }),
          several: rabbitmq({ url: [unreachable, url!], queue, socket, reconnect, handlers: 'none' }),
        },
      },
      controllers: [Sums, SumRoutes, Records],
    });
  });
  afterAll(() => hybrid.app.close());

  it.each(['sum', 'asyncSum', 'streamSum'])('a request is answered by the value of %s()', async (command) => {
    expect(await hybrid.post(`/?command=${command}`, numbers)).toEqual({ status: 200, text: '15' });
  });

  it('concurrent requests get their own replies', async () => {
    expect(await hybrid.post('/concurrent', manyLists)).toEqual({ status: 200, text: 'true' });
  });

  it('each value of a handler that streams is received', async () => {
    expect(await hybrid.post('/stream', numbers)).toEqual({ status: 200, text: '15' });
  });

  it('an emitted event reaches its handler', async () => {
    await hybrid.post('/notify', numbers);
    expect(await notifications.count(1)).toEqual([true]);
  });

  it('a client with several addresses uses the next one if the first does not answer', async () => {
    expect(await hybrid.post('/several-urls', numbers)).toEqual({ status: 200, text: '15' });
  });

  it("data, headers and priority of Nest's record builder arrive, and come back in the reply", async () => {
    const { status, text } = await hybrid.post('/record', { value: 1 });
    expect({ status, reply: JSON.parse(text) as unknown }).toEqual({
      status: 200,
      reply: {
        data: { value: 1 },
        // Beside the sender's own: when the caller stops waiting.
        headers: { 'x-version': '1.0.0', 'stork-deadline': expect.any(String) as unknown },
        priority: 3,
      },
    });
  });
});
