import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern } from '@nestjs/microservices';
import { defer, from, lastValueFrom, switchMap } from 'rxjs';
import { expect, it } from 'vitest';
import { StorkRecordBuilder, type StorkClient, type StorkContext } from 'nestjs-stork';
import { Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

interface SeenMessage {
  readonly pattern: string;
  readonly messageId: string | undefined;
  readonly correlationId: string | undefined;
  readonly causationId: string | undefined;
}

/** one correlation id across the messages that handlers send */
export function correlationContract(harness: DriverHarness): void {
  async function start() {
    const seen = new Seen<SeenMessage>();
    const note = ({ pattern, messageId, correlationId, causationId }: StorkContext): void =>
      seen.add({ pattern, messageId, correlationId, causationId });
    const bound: { client?: StorkClient } = {};
    @Controller()
    class Chain {
      @EventPattern<string>('first')
      async first(@Ctx() context: StorkContext): Promise<void> {
        note(context);
        await Promise.resolve();
        await bound.client!.publish('second', 1, { messageId: 'm-2' });
      }
      @EventPattern<string>('second')
      second(@Ctx() context: StorkContext) {
        note(context);
        // The stream is subscribed to after the handler has returned, and sends then.
        return from(Promise.resolve()).pipe(switchMap(() => bound.client!.send('third', 1)));
      }
      @MessagePattern('third')
      third(@Ctx() context: StorkContext) {
        note(context);
        return defer(() => bound.client!.emit('fourth', 1));
      }
      @EventPattern<string>('fourth')
      fourth(@Ctx() context: StorkContext): void {
        note(context);
      }
      @EventPattern<string>('own')
      async own(): Promise<void> {
        await bound.client!.publish('fourth', 1, { correlationId: 'another' });
      }
    }
    const app = await startApp(harness, { controllers: [Chain] });
    bound.client = app.client;
    return { ...app, seen };
  }

  it('continues in what a handler sends: from promises and streams, events and requests', async () => {
    const { client, seen, settled } = await start();
    await client.publish('first', 1, { messageId: 'm-1', correlationId: 'talk' });
    const [first, second, third, fourth] = await seen.count(4);
    await settled();
    expect([first!.causationId, first!.correlationId]).toEqual([undefined, 'talk']);
    expect(second).toEqual({
      pattern: 'second',
      messageId: 'm-2',
      correlationId: 'talk',
      causationId: 'm-1',
    });
    expect(third).toMatchObject({ pattern: 'third', correlationId: 'talk', causationId: 'm-2' });
    expect(fourth).toMatchObject({ pattern: 'fourth', correlationId: 'talk', causationId: third!.messageId });
  });

  it('starts with the id of a message that carries no correlation id', async () => {
    const { client, seen, settled } = await start();
    await client.publish('first', 1, { messageId: 'm-1' });
    const [, second] = await seen.count(4);
    await settled();
    expect(second).toMatchObject({ correlationId: 'm-1', causationId: 'm-1' });
  });

  it('of a request is beside the id of the request, which a handler does not pass on', async () => {
    const ids = new Seen<readonly (string | undefined)[]>();
    const bound: { client?: StorkClient } = {};
    const note = ({ pattern, requestId, correlationId, causationId }: StorkContext): void =>
      ids.add([pattern, requestId, correlationId, causationId]);
    @Controller()
    class Quotes {
      @MessagePattern('quote')
      async quote(@Ctx() context: StorkContext): Promise<unknown> {
        note(context);
        return bound.client!.request('price', 1, { requestId: 'r-2' });
      }
      @MessagePattern('price')
      price(@Ctx() context: StorkContext): number {
        note(context);
        return 7;
      }
    }
    const { client } = await startApp(harness, { controllers: [Quotes] });
    bound.client = client;
    const options = { messageId: 'm-1', requestId: 'r-1', correlationId: 'talk' };
    expect(await client.request('quote', 1, options)).toBe(7);
    expect(await ids.count(2)).toEqual([
      ['quote', 'r-1', 'talk', undefined],
      ['price', 'r-2', 'talk', 'm-1'],
    ]);
  });

  it('of a request without one is its message id, however it is sent', async () => {
    const ids = new Seen<readonly (string | undefined)[]>();
    @Controller()
    class Quotes {
      @MessagePattern('quote')
      quote(@Ctx() { requestId, correlationId }: StorkContext): void {
        ids.add([requestId, correlationId]);
      }
    }
    const { client } = await startApp(harness, { controllers: [Quotes] });
    const record = new StorkRecordBuilder(1).setRequestId('r-3').setCorrelationId('talk').build();
    await lastValueFrom(client.send('quote', record), { defaultValue: undefined });
    await client.request('quote', 1, { requestId: 'r-4', messageId: 'm-4' });
    expect(await ids.count(2)).toEqual([
      ['r-3', 'talk'],
      ['r-4', 'm-4'],
    ]);
  });

  it('is the one that the sender sets', async () => {
    const { client, seen } = await start();
    await client.publish('own', 1, { messageId: 'm-1', correlationId: 'talk' });
    const [fourth] = await seen.count(1);
    expect(fourth).toMatchObject({ correlationId: 'another', causationId: 'm-1' });
  });

  it('is kept apart for messages that are handled concurrently', async () => {
    const { client, seen, settled } = await start();
    // Fewer than `concurrency`: handlers that wait for a reply must leave slots for the handlers that send
    // it.
    const names = Array.from({ length: 4 }, (_, i) => `talk-${i}`);
    await Promise.all(
      names.map((name) => client.publish('first', 1, { key: name, messageId: name, correlationId: name })),
    );
    const all = await seen.count(16);
    await settled();
    for (const name of names) {
      expect(all.filter(({ correlationId }) => correlationId === name).map(({ pattern }) => pattern)).toEqual(
        ['first', 'second', 'third', 'fourth'],
      );
    }
  });
}
