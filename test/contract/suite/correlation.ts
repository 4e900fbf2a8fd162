import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern } from '@nestjs/microservices';
import { defer, from, switchMap } from 'rxjs';
import { expect, it } from 'vitest';
import type { StorkClient, StorkContext } from 'nestjs-stork';
import { Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

interface Told {
  readonly pattern: string;
  readonly messageId: string | undefined;
  readonly correlationId: string | undefined;
  readonly causationId: string | undefined;
}

/** one conversation over what handlers send */
export function correlationContract(harness: DriverHarness): void {
  async function start() {
    const told = new Seen<Told>();
    const note = ({ pattern, messageId, correlationId, causationId }: StorkContext): void =>
      told.add({ pattern, messageId, correlationId, causationId });
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
        // Sent from a stream, which is subscribed to after the handler has returned.
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
    return { ...app, told };
  }

  it('goes on with what a handler sends: with its promises, its streams, events and requests', async () => {
    const { client, told, settled } = await start();
    await client.publish('first', 1, { messageId: 'm-1', correlationId: 'talk' });
    const [first, second, third, fourth] = await told.count(4);
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

  it('begins with a message that names none, by its own id', async () => {
    const { client, told, settled } = await start();
    await client.publish('first', 1, { messageId: 'm-1' });
    const [, second] = await told.count(4);
    await settled();
    expect(second).toMatchObject({ correlationId: 'm-1', causationId: 'm-1' });
  });

  it('is the one that the sender names', async () => {
    const { client, told } = await start();
    await client.publish('own', 1, { messageId: 'm-1', correlationId: 'talk' });
    const [fourth] = await told.count(1);
    expect(fourth).toMatchObject({ correlationId: 'another', causationId: 'm-1' });
  });

  it('keeps those of messages that run at once apart', async () => {
    const { client, told, settled } = await start();
    // Few enough that those who wait for an answer leave room for those who give it.
    const names = Array.from({ length: 4 }, (_, i) => `talk-${i}`);
    await Promise.all(
      names.map((name) => client.publish('first', 1, { key: name, messageId: name, correlationId: name })),
    );
    const all = await told.count(16);
    await settled();
    for (const name of names) {
      expect(all.filter(({ correlationId }) => correlationId === name).map(({ pattern }) => pattern)).toEqual(
        ['first', 'second', 'third', 'fourth'],
      );
    }
  });
}
