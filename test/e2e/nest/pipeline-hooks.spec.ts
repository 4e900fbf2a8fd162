import { Controller, Inject, Injectable, Scope } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { expect, it, onTestFinished, vi } from 'vitest';
import { InjectClient, StorkClient, StorkContext, storkMicroservice } from 'nestjs-stork';
import { StorkServer } from '../../../lib/nest/server/stork.server.js';
import { Gate, Seen } from '../../contract/app.js';
import { Shop } from '../support.js';

it('settles after the handler although a processing hook returns nothing', async () => {
  const gate = new Gate();
  const seen = new Seen<string>();
  @Controller()
  class Orders {
    @EventPattern<string>('order.created')
    async created(): Promise<void> {
      seen.add('begun');
      await gate.opened;
    }
  }
  const shop = new Shop();
  const app = (await shop.compile([Orders])).createNestMicroservice({
    ...storkMicroservice(),
    logger: false,
  });
  onTestFinished(() => app.close());
  const events: string[] = [];
  const server = app.get(StorkServer);
  server.setOnProcessingStartHook((_, context, done) => {
    events.push(`start ${(context as StorkContext).pattern}`);
    void done();
  });
  server.setOnProcessingEndHook(() => events.push('end'));
  await app.listen();
  await app.get(StorkClient).publish('order.created', 1);
  await seen.count(1);
  expect(shop.broker.queue(shop.queue)!.unacked).toBe(1);
  gate.open();
  await shop.settled();
  expect(events).toEqual(['start order.created', 'end']);
});

it('logs the error of an end hook, also if the start hook returns nothing', async () => {
  @Controller()
  class Orders {
    @EventPattern<string>('order.created')
    created(): void {}
  }
  const shop = new Shop();
  const error = vi.fn<(line: string) => void>();
  const app = (await shop.compile([Orders])).createNestMicroservice({
    ...storkMicroservice(),
    logger: { log() {}, warn() {}, error },
  });
  onTestFinished(() => app.close());
  const server = app.get(StorkServer);
  server.setOnProcessingStartHook((_, __, done) => void done());
  server.setOnProcessingEndHook(() => {
    throw new Error('the span is closed');
  });
  await app.listen();
  await app.get(StorkClient).publish('order.created', 1);
  await shop.settled();
  expect(error.mock.calls.map(([line]) => line)).toEqual([
    'the processing end hook failed: the span is closed',
  ]);
});

it('creates a request-scoped handler for each message', async () => {
  let made = 0;
  @Injectable({ scope: Scope.REQUEST })
  class PerMessage {
    readonly number = ++made;
  }
  @Controller()
  class Orders {
    constructor(private readonly perMessage: PerMessage) {}
    @MessagePattern('number')
    number(): number {
      return this.perMessage.number;
    }
  }
  const shop = new Shop();
  const testing = await shop.compile([Orders], { providers: [PerMessage] });
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  await app.listen();
  const client = app.get(StorkClient);
  expect([await client.request('number', 0), await client.request('number', 0)]).toEqual([1, 2]);
});

it('distinguishes send, emit and publish of one client', async () => {
  const seen = new Seen<unknown>();
  @Injectable()
  class Sender {
    constructor(
      @InjectClient('main') readonly byName: StorkClient,
      @Inject(StorkClient) readonly byType: StorkClient,
    ) {}
  }
  @Controller()
  class Orders {
    @MessagePattern('double')
    double(@Payload() n: number, @Ctx() context: StorkContext): number {
      seen.add([n, context.requestId !== undefined]);
      return n * 2;
    }
  }
  const shop = new Shop();
  const testing = await shop.compile([Orders], { providers: [Sender] });
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  await app.listen();
  const { byName, byType } = app.get(Sender);
  expect(byName).toBe(byType);
  expect(await firstValueFrom(byName.send<number>('double', 1))).toBe(2);
  await byName.publish('double', 2);
  await new Promise<void>((resolve) => byName.emit('double', 3).subscribe({ complete: resolve }));
  expect(await byName.request('double', 4)).toBe(8);
  expect([...(await seen.count(4))].toSorted()).toEqual([
    [1, true],
    [2, false],
    [3, false],
    [4, true],
  ]);
  await expect(firstValueFrom(byName.send('double', undefined))).rejects.toThrow();
});

it('reports the connection state by status', async () => {
  const shop = new Shop();
  const app = (await shop.compile([])).createNestMicroservice({ ...storkMicroservice(), logger: false });
  const client = app.get(StorkClient);
  const states: string[] = [];
  await app.listen();
  await client.connect();
  client.status.subscribe((state) => states.push(state));
  shop.broker.dropConnections();
  await new Promise(setImmediate);
  await app.close();
  expect(states).toEqual(['ready', 'backoff', 'connecting', 'ready', 'closed']);
});
