import { Controller, ForbiddenException, ValidationPipe } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { IsPositive } from 'class-validator';
import { expect, it } from 'vitest';
import { DeadLetterInterceptor, StorkContext, type DeadLetterNotice } from 'nestjs-stork';
import { eventually, headerText, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

class OrderDto {
  @IsPositive()
  quantity!: number;
}

class DeclinedError extends Error {
  override readonly name = 'DeclinedError';
}

@Controller()
class Orders {
  @EventPattern<string>('order.declined')
  declined(): never {
    throw new DeclinedError('the card was declined');
  }
  @EventPattern<string>('order.created')
  created(@Payload() _order: OrderDto): void {}
  @EventPattern<string>('order.forbidden')
  forbidden(): never {
    throw new ForbiddenException();
  }
  @EventPattern<string>('fine')
  fine(): void {}
}

const text = headerText;

/** failure → dead letter */
export function failureContract(harness: DriverHarness): void {
  const start = () =>
    startApp(harness, { controllers: [Orders], pipes: [new ValidationPipe({ transform: true })] });

  it('dead-letters the message of a failing event handler with its bytes, its headers and the reason', async () => {
    const { source, deadLetters, settled, service } = await start();
    const body = Buffer.from('{ "spaced" :  1 }');
    const before = Date.now();
    await harness.publishRaw(source, {
      pattern: 'order.declined',
      body,
      messageId: 'm-1',
      key: 'k-1',
      contentType: 'application/json',
      headers: { tenant: 'blue' },
    });
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(Buffer.compare(deadLetter!.body!, body)).toBe(0);
    expect(text(deadLetter, 'tenant')).toBe('blue');
    expect(text(deadLetter, 'stork-death-reason')).toBe('retries-exhausted');
    expect(text(deadLetter, 'stork-handler')).toBe('Orders.declined');
    expect(text(deadLetter, 'stork-error-name')).toBe('DeclinedError');
    expect(text(deadLetter, 'stork-error-message')).toBe('the card was declined');
    expect(text(deadLetter, 'stork-error-stack')).toContain('DeclinedError');
    expect(text(deadLetter, 'stork-attempt')).toBe('1');
    expect(text(deadLetter, 'stork-origin')).toBe(source);
    expect(text(deadLetter, 'stork-consumer')).toMatch(/^.+\/\d+\/main$/);
    const failedAt = text(deadLetter, 'stork-failed-at')!;
    expect(failedAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(Date.parse(failedAt)).toBeGreaterThanOrEqual(before);
    expect(text(deadLetter, 'stork-first-failed-at')).toBe(failedAt);
    expect(service.state()['main']!.counts['dead-lettered']).toBe(1);
  });

  it('continues with the next message', async () => {
    const { client, deadLetters, settled, service } = await start();
    await client.publish('order.declined', {}, { key: 'k' });
    await client.publish('fine', {}, { key: 'k' });
    await deadLetters(1);
    await settled();
    expect(service.state()['main']!.counts.handled).toBe(1);
  });

  it('records the reason: refused by validation, fatal', async () => {
    const { client, deadLetters } = await start();
    await client.publish('order.created', { quantity: -1 }, { key: 'k' });
    await client.publish('order.forbidden', {}, { key: 'k' });
    const kept = await deadLetters(2);
    expect(kept.map((deadLetter) => text(deadLetter, 'stork-death-reason')).toSorted()).toEqual([
      'fatal',
      'invalid',
    ]);
  });

  it('dead-letters a message whose pattern has no handler', async () => {
    const { client, deadLetters, settled } = await start();
    await client.publish('order.teleported', { id: 1 });
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(text(deadLetter, 'stork-death-reason')).toBe('no-handler');
    expect(text(deadLetter, 'stork-error-message')).toContain('order.teleported');
    expect(deadLetter!.body!.toString()).toBe('{"id":1}');
  });

  it('dead-letters a message without a pattern', async () => {
    const { source, deadLetters } = await start();
    await harness.publishRaw(source, { body: Buffer.from('{}') });
    expect(text((await deadLetters(1))[0], 'stork-death-reason')).toBe('no-handler');
  });

  const deep = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
  it.each([
    ['malformed JSON', '{"id":', 'application/json'],
    ['bytes that are no UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'application/json'],
    ['an unknown content type', '{}', 'application/x-unheard-of'],
    ['a key that would reach the prototype', '{"a":{"__proto__":{"admin":true}}}', 'application/json'],
    ['the same with escapes', String.raw`{"\u005f_proto__":{"admin":true}}`, 'application/json'],
    ['nesting 10 000 deep', deep(10_000), 'application/json'],
  ])('dead-letters a message that cannot be decoded: %s', async (_, body, contentType) => {
    const { source, deadLetters, client, settled, service } = await start();
    const bytes = Buffer.from(body);
    await harness.publishRaw(source, { pattern: 'fine', body: bytes, contentType, messageId: 'm' });
    const [deadLetter] = await deadLetters(1);
    expect(text(deadLetter, 'stork-death-reason')).toBe('undecodable');
    expect(Buffer.compare(deadLetter!.body ?? Buffer.alloc(0), bytes)).toBe(0);
    await client.publish('fine', 1);
    await eventually(async () => service.state()['main']!.counts.handled, 'the next message');
    await settled();
    expect(service.state()['main']!.counts.handled).toBe(1);
  });

  it('dead-letters a body above maxBodyBytes without decoding it', async () => {
    const { client, deadLetters } = await startApp(harness, {
      controllers: [Orders],
      transport: { maxBodyBytes: 1_000 },
    });
    await client.publish('fine', 'x'.repeat(1_000));
    const [deadLetter] = await deadLetters(1);
    expect(text(deadLetter, 'stork-death-reason')).toBe('invalid');
    expect(text(deadLetter, 'stork-error-message')).toContain('1002 bytes');
  });

  it('applies redact and onDeadLetter of the transport and the module to messages that no handler gets', async () => {
    const notices = new Seen<DeadLetterNotice>();
    const { source, client, deadLetters } = await startApp(harness, {
      controllers: [Orders],
      transport: { deadLetter: { redact: (error) => error.replaceAll(/\d{4}/g, '****') } },
      module: { deadLetter: { onDeadLetter: (notice) => notices.add(notice) } },
    });
    const body = Buffer.from('secret 4111');
    const contentType = 'application/json';
    await harness.publishRaw(source, { pattern: 'fine', body, contentType, messageId: 'm-1' });
    await notices.count(1);
    await client.publish('order.5105', 1);
    const [unread, unheard] = await notices.count(2);
    expect(unread).toMatchObject({ reason: 'undecodable', pattern: 'fine', messageId: 'm-1', attempt: 1 });
    expect(unread!.handler).toBeUndefined();
    expect(unheard).toMatchObject({ reason: 'no-handler', pattern: 'order.5105' });
    const kept = (await deadLetters(2)).map((deadLetter) => text(deadLetter, 'stork-error-message'));
    expect(kept.toSorted()).toEqual([
      expect.stringContaining('secret ****'),
      expect.stringContaining('order.****'),
    ]);
  });

  it('applies redact of a global interceptor to messages that no handler gets', async () => {
    const { client, deadLetters } = await startApp(harness, {
      controllers: [Orders],
      interceptors: [new DeadLetterInterceptor({ redact: () => 'nothing to see' })],
      transport: { deadLetter: { redact: (error) => error } },
    });
    await client.publish('order.5105', 1);
    expect(text((await deadLetters(1))[0], 'stork-error-message')).toBe('nothing to see');
  });

  it('survives every kind of thrown value, and still dead-letters the message', async () => {
    const thrown: unknown[] = [
      undefined,
      null,
      'text',
      { message: { toString: null } },
      new Error('x'.repeat(1_000_000)),
      Object.defineProperty(new Error('hidden'), 'message', {
        get: () => {
          throw new Error('no message for you');
        },
      }),
    ];
    @Controller()
    class Throws {
      @EventPattern<string>('throw')
      throw(@Payload() which: number): never {
        throw thrown[which];
      }
    }
    const { client, deadLetters } = await startApp(harness, { controllers: [Throws] });
    for (const which of thrown.keys()) await client.publish('throw', which);
    const kept = await deadLetters(thrown.length);
    for (const deadLetter of kept) {
      expect(text(deadLetter, 'stork-death-reason')).toBe('retries-exhausted');
      expect(Buffer.byteLength(text(deadLetter, 'stork-error-message')!)).toBeLessThanOrEqual(1_024);
    }
  });

  it('dead-letters a message of 200 headers whose handler throws 1 MB', async () => {
    @Controller()
    class Fails {
      @EventPattern<string>('work')
      work(): never {
        throw new Error('x'.repeat(1_000_000));
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [Fails] });
    const headers = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`shop-${i}`, `value ${i}`]));
    await client.publish('work', { n: 1 }, { headers });
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(deadLetter!.body?.toString()).toBe('{"n":1}');
    expect(text(deadLetter, 'stork-death-reason')).toBe('retries-exhausted');
    expect(text(deadLetter, 'stork-error-message')).toMatch(/^x{100}/);
    const kept = Object.keys(headers).filter((name) => text(deadLetter, name) === headers[name]);
    expect(kept).toEqual(Object.keys(headers));
  });

  it('dead-letters a message with a timestamp beyond the range of Date', async () => {
    const { source, deadLetters, settled } = await start();
    const body = Buffer.from('{}');
    await harness.publishRaw(source, { pattern: 'order.declined', body, timestamp: 9e15 });
    expect(text((await deadLetters(1))[0], 'stork-origin-timestamp')).toBeUndefined();
    await settled();
  });

  it('treats invalid values in stork headers as absent', async () => {
    const seen = new Seen<StorkContext>();
    @Controller()
    class Reads {
      @EventPattern<string>('read')
      read(@Ctx() context: StorkContext): void {
        seen.add(context);
      }
    }
    const { source, settled } = await startApp(harness, {
      controllers: [Reads],
      transport: { concurrency: 1 },
    });
    for (const value of ['-1', 'NaN', '1e9', '9'.repeat(10_000), '']) {
      const headers = { 'stork-attempt': value, 'stork-deadline': value, 'stork-first-failed-at': value };
      await harness.publishRaw(source, { pattern: 'read', body: Buffer.from('1'), headers });
    }
    const contexts = await seen.count(5);
    expect(contexts.map(({ attempt }) => attempt)).toEqual([1, 1, 1, 1, 1]);
    await settled();
  });

  it('settles several handlers of one event independently: one dead letter for each that failed', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Billing {
      @EventPattern<string>('order.created')
      bill(): never {
        throw new Error('no bill');
      }
    }
    @Controller()
    class Shipping {
      @EventPattern<string>('order.created')
      ship(): void {
        seen.add('shipped');
      }
    }
    @Controller()
    class Mailing {
      @EventPattern<string>('order.created')
      async mail(): Promise<void> {
        await Promise.resolve();
        throw new Error('no mail');
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, {
      controllers: [Billing, Shipping, Mailing],
    });
    await client.publish('order.created', { id: 1 });
    const kept = await deadLetters(2);
    await settled();
    expect(kept.map((deadLetter) => text(deadLetter, 'stork-handler')).toSorted()).toEqual([
      'Billing.bill',
      'Mailing.mail',
    ]);
    expect(seen.all).toEqual(['shipped']);
  });

  it('delivers a message that names a handler to that handler only', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Both {
      @EventPattern<string>('order.created')
      one(): void {
        seen.add('one');
      }
      @EventPattern<string>('order.created')
      two(): void {
        seen.add('two');
      }
    }
    const { source, deadLetters, settled } = await startApp(harness, { controllers: [Both] });
    const body = Buffer.from('1');
    await harness.publishRaw(source, {
      pattern: 'order.created',
      body,
      headers: { 'stork-handler': 'Both.two' },
    });
    await harness.publishRaw(source, {
      pattern: 'order.created',
      body,
      headers: { 'stork-handler': 'Gone.away' },
    });
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(seen.all).toEqual(['two']);
    expect(text(deadLetter, 'stork-death-reason')).toBe('no-handler');
    expect(text(deadLetter, 'stork-error-message')).toContain('Gone.away');
  });

  it('lets an application consume its dead letters like any messages', async () => {
    const read = new Seen<string>();
    @Controller()
    class Letters {
      @EventPattern<string>('#')
      deadLetter(@Payload() body: Buffer, @Ctx() context: StorkContext): void {
        read.add(`${context.pattern}: ${body.toString()}`);
      }
    }
    const raw = {
      contentType: 'application/json',
      encode: () => Buffer.alloc(0),
      decode: (body: Buffer) => body,
    };
    const { client, source } = await start();
    const reader = await startApp(harness, {
      controllers: [Letters],
      source: harness.deadLetterSource(source),
      transport: { codecs: [raw] },
    });
    await client.publish('order.declined', { id: 1 });
    await client.publish('fine', Buffer.from('{'), { contentType: 'application/json' });
    await client.request('no.such', 2).catch(() => {});
    expect([...(await read.count(3))].toSorted()).toEqual([
      'fine: {',
      'no.such: 2',
      'order.declined: {"id":1}',
    ]);
    await reader.settled();
    expect(await harness.deadLetters(reader.source)).toEqual([]);
  });

  it('records the failed constraints of a validation pipe', async () => {
    const { client, deadLetters } = await start();
    await client.publish('order.created', { quantity: -1 });
    expect(text((await deadLetters(1))[0], 'stork-error-message')).toContain(
      'quantity must be a positive number',
    );
  });

  it('dead-letters an event whose message handler fails', async () => {
    @Controller()
    class Quotes {
      @MessagePattern('quote')
      quote(): never {
        throw new Error('no quote');
      }
    }
    const { client, deadLetters } = await startApp(harness, { controllers: [Quotes] });
    await client.publish('quote', 1);
    expect(text((await deadLetters(1))[0], 'stork-handler')).toBe('Quotes.quote');
  });
}
