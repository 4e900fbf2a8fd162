import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { expect, it } from 'vitest';
import { StorkContext, StorkRecordBuilder, type MessageOptions } from 'nestjs-stork';
import type { OptionalMessageOption } from '../../../lib/core/port/driver.js';
import { readText } from '../../../lib/core/message/headers.js';
import { Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** options that arrive alike on events and requests, by each method of the client */
export function messageOptionContract(harness: DriverHarness): void {
  const { messageOptions } = harness.capabilities;
  const can = (option: OptionalMessageOption): boolean => messageOptions.has(option);
  const options: MessageOptions = {
    headers: { tenant: 'acme' },
    key: 'k-1',
    messageId: 'm-1',
    correlationId: 'c-1',
    contentType: 'text/plain',
    timestamp: Date.UTC(2026, 0, 1),
    timeoutMs: 60_000,
    signal: new AbortController().signal,
    ...(can('appId') ? { appId: 'shop' } : {}),
    ...(can('persistent') ? { persistent: false } : {}),
    ...(can('priority') ? { priority: 3 } : {}),
    ...(can('expiresInMs') ? { expiresInMs: 60_000 } : {}),
    ...(can('partition') ? { partition: 2 } : {}),
  };

  it.each(['publish', 'emit', 'request', 'send'] as const)('%s carries every option', async (way) => {
    const seen = new Seen<{ context: StorkContext; data: unknown }>();
    @Controller()
    class Reads {
      @EventPattern<string>('event')
      event(@Payload() data: unknown, @Ctx() context: StorkContext): void {
        seen.add({ context, data });
      }
      @MessagePattern('ask')
      ask(@Payload() data: unknown, @Ctx() context: StorkContext): string {
        seen.add({ context, data });
        return 'answer';
      }
    }
    const { client } = await startApp(harness, { controllers: [Reads] });
    const record = new StorkRecordBuilder('text').setOptions(options).build();
    const ways = {
      publish: () => client.publish('event', 'text', options),
      emit: () => firstValueFrom(client.emit('event', record)),
      request: () => client.request('ask', 'text', options),
      send: () => firstValueFrom(client.send('ask', record)),
    };
    expect(await ways[way]()).toBe(way === 'request' || way === 'send' ? 'answer' : undefined);
    const [{ context, data }] = (await seen.count(1)) as [{ context: StorkContext; data: unknown }];
    const { key, messageId, timestamp } = context;
    expect([data, key, messageId, timestamp, readText(context.headers, 'tenant', 100)]).toEqual([
      'text',
      options.key,
      options.messageId,
      options.timestamp,
      'acme',
    ]);
    expect(harness.propertiesOf(context)).toEqual({
      appId: options.appId,
      persistent: options.persistent,
    });
  });

  it.each(['request', 'send'] as const)('%s refuses delayMs, and the handler is not called', async (way) => {
    const seen = new Seen<unknown>();
    @Controller()
    class Asked {
      @MessagePattern('ask')
      ask(@Payload() data: unknown): void {
        seen.add(data);
      }
    }
    const { client } = await startApp(harness, { controllers: [Asked] });
    const delayed = new StorkRecordBuilder('delayed').setDelayMs(10).build();
    const ways = {
      request: () => client.request('ask', 'delayed', { delayMs: 10 }),
      send: () => firstValueFrom(client.send('ask', delayed)),
    };
    await expect(ways[way]()).rejects.toThrow(/^delayMs: expected nothing: the transport "main" does not /);
    await client.request('ask', 'at once');
    expect(seen.all).toEqual(['at once']);
  });
}
