import { Controller } from '@nestjs/common';
import { EventPattern, MessagePattern } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import { expect, it } from 'vitest';
import type { StorkEvents } from 'nestjs-stork';
import { eventually, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** what an application sees of its connection: status, events, the broker's own client, closing a client */
export function connectionContract(harness: DriverHarness): void {
  async function start() {
    const handled = new Seen<number>();
    @Controller()
    class Orders {
      @EventPattern<string>('created')
      created(n: number): void {
        handled.add(n);
      }
      @MessagePattern('double')
      double(n: number): number {
        return 2 * n;
      }
    }
    return { ...(await startApp(harness, { controllers: [Orders], transport: harness.impatient })), handled };
  }

  it("gives the broker's own client while the application runs, and an error by name afterwards", async () => {
    const { app, client, close } = await start();
    expect(app.unwrap()).toBeDefined();
    expect(client.unwrap()).toBe(app.unwrap());
    await close();
    expect(() => app.unwrap()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(() => client.unwrap()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  it('opens a closed client again by connect(), until the application is closed', async () => {
    const { client, close, handled } = await start();
    expect(await lastValueFrom(client.send('double', 1))).toBe(2);
    client.close();
    await expect(lastValueFrom(client.send('double', 2))).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(client.publish('created', 2)).rejects.toMatchObject({ code: 'CLOSED' });
    await client.connect();
    expect(await lastValueFrom(client.send('double', 3))).toBe(6);
    await client.publish('created', 3);
    expect(await handled.count(1)).toEqual([3]);
    await close();
    await expect(client.connect()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('reports the loss of the connection and the next one, by status and by events', async () => {
    const { app, client, close } = await start();
    const events: string[] = [];
    for (const event of ['connect', 'disconnect', 'error', 'blocked'] as const) {
      const noting =
        (by: string) =>
        (...args: readonly unknown[]) => {
          events.push([by, event, args.at(-1)].join(' '));
        };
      app.on<StorkEvents>(event, noting('app'));
      client.on(event, noting('client'));
    }
    const states: string[] = [];
    app.status.subscribe((state) => states.push(state));
    const clientStates: string[] = [];
    client.status.subscribe((state) => clientStates.push(state));
    expect([states, clientStates]).toEqual([['ready'], ['ready']]);
    await harness.dropConnections();
    await eventually(async () => {
      // What is sent makes a driver notice that its connection was lost.
      await client.publish('created', 1).catch(() => {});
      const isBack = states.includes('backoff') && states.at(-1) === 'ready';
      return isBack && events.at(-1)?.endsWith('connect main') ? true : undefined;
    }, 'a new connection');
    expect(clientStates).toContain('backoff');
    for (const by of ['app', 'client'])
      for (const event of ['disconnect', 'error', 'connect']) expect(events).toContain(`${by} ${event} main`);
    await close();
    expect([states.at(-1), clientStates.at(-1)]).toEqual(['closed', 'closed']);
    expect(events.slice(-2).toSorted()).toEqual(['app disconnect main', 'client disconnect main']);
  });
}
