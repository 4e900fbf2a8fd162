import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, RmqRecordBuilder } from '@nestjs/microservices';
import { firstValueFrom, lastValueFrom } from 'rxjs';
import { expect, it } from 'vitest';
import { StorkConfigError, StorkContext } from 'nestjs-stork';
import { readText } from '../../../lib/core/message/headers.js';
import { Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

interface Received {
  readonly data: unknown;
  readonly key: string | undefined;
  readonly header: string | undefined;
  readonly messageId: string | undefined;
}

async function start(harness: DriverHarness) {
  const seen = new Seen<Received>();
  @Controller()
  class Orders {
    @EventPattern<string>('created')
    created(@Payload() data: unknown, @Ctx() context: StorkContext): void {
      this.quote(data, context);
    }

    @MessagePattern('quote')
    quote(@Payload() data: unknown, @Ctx() { key, headers, messageId }: StorkContext): unknown {
      seen.add({ data, key, header: readText(headers, 'tenant', 100), messageId });
      return data;
    }
  }
  const { client } = await startApp(harness, { controllers: [Orders] });
  const received = async (count: number): Promise<Received> => (await seen.count(count))[count - 1]!;
  return { client, received };
}

/** `send()` and `emit()` take what Nest's own clients take */
export function nestRecordContract(harness: DriverHarness): void {
  it('what RmqRecordBuilder builds', async () => {
    const { client, received } = await start(harness);
    const record = new RmqRecordBuilder({ id: 1 })
      .setOptions({ headers: { tenant: 'a' }, messageId: 'm-1', contentType: 'application/json' })
      .build();
    await lastValueFrom(client.emit('created', record), { defaultValue: undefined });
    const expected = { data: { id: 1 }, header: 'a', messageId: 'm-1' };
    expect(await received(1)).toMatchObject(expected);
    expect(await firstValueFrom(client.send('quote', record))).toEqual({ id: 1 });
    expect(await received(2)).toMatchObject(expected);
    client.emit('created', new RmqRecordBuilder('bare').build());
    expect(await received(3)).toMatchObject({ data: 'bare', header: undefined });
  });

  it.each([
    ['CC', { CC: ['other'] }],
    ['BCC', { BCC: 'other' }],
    ['userId', { userId: 'guest' }],
    ['contentEncoding', { contentEncoding: 'gzip' }],
    ['type', { type: 'x' }],
  ])('but its option %s is refused by name, by emit() and send()', async (name, options) => {
    const { client } = await start(harness);
    const record = new RmqRecordBuilder({}).setOptions(options).build();
    for (const sent of [client.emit('created', record), client.send('quote', record)]) {
      const refusal: unknown = await lastValueFrom(sent).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(StorkConfigError);
      expect((refusal as StorkConfigError).problems[0]!.name).toBe(`RmqRecord.options.${name}`);
    }
  });

  it('publish() and request() take data as it is', async () => {
    const { client, received } = await start(harness);
    const data = { key: 'k', value: { id: 1 }, headers: { tenant: 'a' } };
    await client.publish('created', data);
    expect(await received(1)).toMatchObject({ data, header: undefined });
    expect(await client.request('quote', data)).toEqual(data);
  });
}

/** What Nest's client for Kafka takes, on a log alone */
export function kafkaRecordContract(harness: DriverHarness): void {
  if (!harness.capabilities.destinations.has('topic')) {
    it('takes { key, value } as data on a queue', async () => {
      const { client, received } = await start(harness);
      const data = { key: 'k', value: { id: 1 } };
      client.emit('created', data);
      expect(await received(1)).toMatchObject({ data });
    });
    return;
  }

  it.each([
    ['all of it', { key: 'k', value: { id: 1 }, headers: { tenant: 'a' } }, { id: 1 }, 'k', 'a'],
    ['no key', { value: 'text' }, 'text', undefined, undefined],
    ['text of JSON', { value: '{"id":1}' }, { id: 1 }, undefined, undefined],
    ['text that begins like JSON', { value: '[draft]' }, '[draft]', undefined, undefined],
    ['text of a number', { value: '7' }, '7', undefined, undefined],
    ['a key of bytes', { key: Buffer.from('k'), value: 0, headers: {} }, 0, 'k', undefined],
    ['a key of an object', { key: { id: 7 }, value: [1] }, [1], '{"id":7}', undefined],
    ['a number as key', { key: 7, value: false }, false, '7', undefined],
  ])('{ key, value, headers } of Nest for Kafka: %s', async (_, record, data, key, header) => {
    const { client, received } = await start(harness);
    client.emit('created', record);
    expect(await received(1)).toMatchObject({ data, key, header });
    expect(await firstValueFrom(client.send('quote', record))).toEqual(data);
    expect(await received(2)).toMatchObject({ data, header });
  });

  it('takes an object with any other field as data', async () => {
    const { client, received } = await start(harness);
    const data = { value: 5, currency: 'EUR' };
    client.emit('created', data);
    expect(await received(1)).toMatchObject({ data });
  });
}
