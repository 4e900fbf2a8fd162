import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { of, EMPTY } from 'rxjs';
import { expect, it } from 'vitest';
import { NoRouteError, StorkContext, StorkRecordBuilder } from 'nestjs-stork';
import { Gate, Seen, startApp, uniqueName } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** publish → handle → settle */
export function eventContract(harness: DriverHarness): void {
  it('delivers a published event to its handler and settles it', async () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Orders {
      @EventPattern<string>('order.created')
      created(@Payload() order: unknown): void {
        seen.add(order);
      }
    }
    const { client, settled, service } = await startApp(harness, { controllers: [Orders] });
    await client.publish('order.created', { id: 7, lines: ['a', 'ü'] });
    expect(await seen.count(1)).toEqual([{ id: 7, lines: ['a', 'ü'] }]);
    await settled();
    expect(service.state()['main']!.counts).toEqual({ received: 1, handled: 1 });
  });

  it('gives the handler the metadata that the sender set', async () => {
    const seen = new Seen<StorkContext>();
    @Controller()
    class Orders {
      @EventPattern<string>('order.created')
      created(@Ctx() context: StorkContext): void {
        seen.add(context);
      }
    }
    const { client } = await startApp(harness, { controllers: [Orders] });
    const timestamp = Date.UTC(2026, 1, 3, 4, 5, 6);
    await client.publish(
      'order.created',
      {},
      { messageId: 'm-1', key: 'k-1', correlationId: 'c-1', timestamp, headers: { tenant: 'blue' } },
    );
    const context = (await seen.count(1))[0]!;
    expect(context.transport).toBe('main');
    expect(context.pattern).toBe('order.created');
    expect(context.messageId).toBe('m-1');
    expect(context.key).toBe('k-1');
    expect(context.correlationId).toBe('c-1');
    expect(context.requestId).toBeUndefined();
    expect(context.timestamp).toBe(timestamp);
    expect(context.attempt).toBe(1);
    expect(context.redelivered).toBe(false);
    expect(context.getMetadata()).toEqual({ tenant: 'blue' });
  });

  it('settles an event only after the promise or the stream of its handler has completed', async () => {
    const gate = new Gate();
    const started = new Seen<string>();
    @Controller()
    class Orders {
      @EventPattern<string>('slow')
      async slow(): Promise<void> {
        started.add('slow');
        await gate.opened;
      }
      @EventPattern<string>('stream')
      stream() {
        started.add('stream');
        return of(1, 2, 3);
      }
      @EventPattern<string>('empty')
      empty() {
        started.add('empty');
        return EMPTY;
      }
    }
    const { client, source, settled, service } = await startApp(harness, { controllers: [Orders] });
    await client.publish('slow', 1);
    await started.count(1);
    expect(service.state()['main']!.inFlight).toBe(1);
    gate.open();
    await client.publish('stream', 1);
    await client.publish('empty', 1);
    await started.count(3);
    await settled();
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('delivers an event without an event handler to the message handler and drops its result', async () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Quotes {
      @MessagePattern('order.quote')
      quote(@Payload() data: unknown): string {
        seen.add(data);
        return 'nobody asked';
      }
    }
    const { client, settled } = await startApp(harness, { controllers: [Quotes] });
    await client.publish('order.quote', { sku: 'x' });
    expect(await seen.count(1)).toEqual([{ sku: 'x' }]);
    await settled();
  });

  it('carries text, bytes and null as they are', async () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Bodies {
      @EventPattern<string>('body')
      body(@Payload() data: unknown): void {
        seen.add(data);
      }
    }
    const { client } = await startApp(harness, { controllers: [Bodies], transport: { concurrency: 1 } });
    const bytes = Buffer.from([0, 255, 254, 10]);
    await client.publish('body', 'grüße\n', { contentType: 'text/plain', key: 'k' });
    await client.publish('body', bytes, { key: 'k' });
    await client.publish('body', 'in JSON', { key: 'k' });
    await client.publish('body', null, { key: 'k' });
    const all = await seen.count(4);
    expect(all[0]).toBe('grüße\n');
    expect(Buffer.compare(all[1] as Buffer, bytes)).toBe(0);
    expect(all[2]).toBe('in JSON');
    expect(all[3]).toBeNull();
  });

  it('carries a body of 5 MB', async () => {
    const seen = new Seen<number>();
    @Controller()
    class Bodies {
      @EventPattern<string>('body')
      body(@Payload() data: string): void {
        seen.add(data.length);
      }
    }
    const { client, settled } = await startApp(harness, { controllers: [Bodies] });
    await client.publish('body', 'x'.repeat(5_000_000));
    expect(await seen.count(1)).toEqual([5_000_000]);
    await settled();
  });

  it('handles a message written by a program that does not use the library', async () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Orders {
      @EventPattern<string>('order.created')
      created(@Payload() data: unknown): void {
        seen.add(data);
      }
    }
    const { source } = await startApp(harness, { controllers: [Orders] });
    const body = Buffer.from('{"id":1}');
    await harness.publishRaw(source, {
      pattern: 'order.created',
      body,
      contentType: 'application/json; charset=utf-8',
    });
    await harness.publishRaw(source, { pattern: 'order.created', body });
    expect(await seen.count(2)).toEqual([{ id: 1 }, { id: 1 }]);
  });

  it("serves Nest's emit() with a plain value and with a record", async () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Orders {
      @EventPattern<string>('order.created')
      created(@Payload() data: unknown, @Ctx() context: StorkContext): void {
        seen.add([data, context.key]);
      }
    }
    const { client } = await startApp(harness, { controllers: [Orders], transport: { concurrency: 1 } });
    await new Promise<void>((resolve, reject) => {
      client.emit('order.created', 1).subscribe({ complete: resolve, error: reject });
    });
    await new Promise<void>((resolve, reject) => {
      const record = new StorkRecordBuilder(2).setKey('k').build();
      client.emit('order.created', record).subscribe({ complete: resolve, error: reject });
    });
    expect([...(await seen.count(2))].toSorted()).toEqual(
      [
        [1, undefined],
        [2, 'k'],
      ].toSorted(),
    );
  });

  it("carries what Nest's dispatch hook attached, and nothing on Nest 11, which has no such hook", async () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Orders {
      @EventPattern<string>('order.created')
      created(@Ctx() context: StorkContext): void {
        seen.add(context.getMetadata());
      }
      @MessagePattern('order.quote')
      quote(@Ctx() context: StorkContext): void {
        seen.add(context.getMetadata());
      }
    }
    const { client } = await startApp(harness, { controllers: [Orders] });
    await client.publish('order.created', {});
    await client.request('order.quote', {});
    expect(await seen.count(2)).toEqual([undefined, undefined]);
    const hasHook = 'setOnDispatchHook' in client;
    if (hasHook) {
      client.setOnDispatchHook((packet) => {
        packet.metadata = { trace: 't-1' };
      });
    }
    await client.publish('order.created', {});
    await client.request('order.quote', {});
    const metadata = hasHook ? { trace: 't-1' } : undefined;
    expect((await seen.count(4)).slice(2)).toEqual([metadata, metadata]);
  });

  it('rejects an event sent to a destination that does not exist', async () => {
    const { client } = await startApp(harness, { controllers: [] });
    const nowhere = uniqueName();
    const to = harness.capabilities.destinations.has('queue') ? { queue: nowhere } : { topic: nowhere };
    await expect(client.publish('x', 1, { to })).rejects.toThrow(NoRouteError);
    await expect(client.publish('x', 1, { to })).rejects.toThrow(nowhere);
  });

  it('refuses a wrong call by name and sends nothing', async () => {
    @Controller()
    class Orders {
      @EventPattern<string>('x')
      x(): void {}
    }
    const { client, source } = await startApp(harness, { controllers: [Orders] });
    await expect(client.publish('x', 1, { headers: { 'stork-attempt': '5' } })).rejects.toThrow(
      'stork-attempt',
    );
    await expect(client.publish('', 1)).rejects.toThrow('pattern');
    await expect(client.publish('x'.repeat(256), 1)).rejects.toThrow('255 bytes');
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    await expect(client.publish('x', circular)).rejects.toMatchObject({ code: 'CONFIG' });
    await expect(client.publish('x', 1, { contentType: 'application/x-unknown' })).rejects.toThrow(
      'no codec',
    );
    await expect(client.publish('x', 1, { requestId: 'r-1' })).rejects.toThrow(
      'requestId: expected nothing: an event has no reply',
    );
    expect(await harness.waiting(source)).toBe(0);
  });
}
