import { Controller, UseGuards, type CanActivate } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { lastValueFrom, of, toArray, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { Idempotent, Retry, type CodecContext, type MessageCodec } from 'nestjs-stork';
import { deathReason, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

interface Order {
  readonly id: number;
}

/** Reads and writes JSON after a turn of the event loop; `wrong` in a value makes it reject. */
function newAsyncCodec() {
  const contexts: CodecContext[] = [];
  const afterTurn = async <T>(context: CodecContext, work: () => T): Promise<T> => {
    contexts.push(context);
    await new Promise(setImmediate);
    return work();
  };
  const codec: MessageCodec = {
    contentType: 'application/x-avro',
    encode: (value, context) =>
      afterTurn(context, () => {
        const text = JSON.stringify(value ?? null);
        if (text.includes('wrong')) throw new RangeError('no schema for it');
        return Buffer.from(text);
      }),
    decode: (body, context) => afterTurn(context, () => JSON.parse(body.toString()) as unknown),
  };
  return { contexts, transport: { codecs: [codec], defaultContentType: codec.contentType } };
}

/** bodies ↔ values */
export function codecContract(harness: DriverHarness): void {
  describe('a codec that is asynchronous', () => {
    it('is awaited before guards, pipes, idempotency and the handler see the value', async () => {
      const { contexts, transport } = newAsyncCodec();
      const seen = new Seen<unknown>();
      const guard: CanActivate = {
        canActivate: (context) => {
          seen.add(['guard', context.switchToRpc().getData<Order>().id]);
          return true;
        },
      };
      @Controller()
      class Orders {
        @UseGuards(guard)
        @EventPattern<string>('guarded')
        guarded(): void {}

        @EventPattern<string>('field')
        field(@Payload('id') id: number): void {
          seen.add(['field', id]);
        }

        @Idempotent<Order>({ key: ({ id }) => String(id) })
        @EventPattern<string>('once')
        once(@Payload() { id }: Order): void {
          seen.add(['once', id]);
        }
      }
      const { client, settled, source } = await startApp(harness, { controllers: [Orders], transport });
      for (const [pattern, id] of [
        ['guarded', 1],
        ['field', 2],
        ['once', 3],
        ['once', 4],
        ['once', 4],
      ] as const)
        await client.publish(pattern, { id }, { headers: { tenant: 'x' }, key: 'k' });
      expect(await seen.count(4)).toEqual([
        ['guard', 1],
        ['field', 2],
        ['once', 3],
        ['once', 4],
      ]);
      await settled();
      const common = { pattern: 'guarded', headers: { tenant: 'x' } };
      expect(contexts).toContainEqual({ ...common, direction: 'outbound', destination: source });
      expect(contexts).toContainEqual(
        expect.objectContaining({ direction: 'inbound', pattern: 'guarded', destination: source }),
      );
    });

    it('serves requests, streams and their order', async () => {
      @Controller()
      class Orders {
        @MessagePattern('one')
        one(@Payload() { id }: Order): Order {
          return { id: id + 1 };
        }
        @MessagePattern('nothing')
        nothing(): void {}
        @MessagePattern('many')
        many(@Payload() { id }: Order) {
          return of(...Array.from({ length: id }, (_, i) => i));
        }
      }
      const { client } = await startApp(harness, {
        controllers: [Orders],
        transport: newAsyncCodec().transport,
      });
      expect(await client.request('one', { id: 1 })).toEqual({ id: 2 });
      expect(await client.request('nothing', { id: 1 })).toBeUndefined();
      expect(await lastValueFrom(client.send('many', { id: 5 }).pipe(toArray()))).toEqual([0, 1, 2, 3, 4]);
    });

    it('dead-letters what it cannot decode as undecodable, once, and refuses what it cannot encode', async () => {
      const { transport } = newAsyncCodec();
      @Controller()
      class Orders {
        @EventPattern<string>('field')
        @Retry({ maxRetries: 3, delayMs: 1 })
        field(@Payload('id') _id: number): void {}
      }
      const { client, deadLetters, source } = await startApp(harness, { controllers: [Orders], transport });
      await harness.publishRaw(source, {
        body: Buffer.from('{broken'),
        pattern: 'field',
        contentType: transport.defaultContentType,
      });
      const [deadLetter] = await deadLetters(1);
      expect(deathReason(deadLetter!)).toBe('undecodable');
      await expect(client.publish('field', 'wrong')).rejects.toThrow(
        'the data for pattern "field" cannot be encoded: no schema for it',
      );
    });

    it('publishes in the order of the calls', async () => {
      const { transport } = newAsyncCodec();
      const seen = new Seen<unknown>();
      @Controller()
      class Orders {
        @EventPattern<string>('created')
        created(@Payload() data: unknown): void {
          seen.add(data);
        }
      }
      const { client } = await startApp(harness, { controllers: [Orders], transport });
      const json = { contentType: 'application/json', key: 'k' };
      await Promise.all([
        client.publish('created', 'slow', { key: 'k' }),
        client.publish('created', 'fast', json),
        client.publish('created', 'slow again', { key: 'k' }),
      ]);
      expect(await seen.count(3)).toEqual(['slow', 'fast', 'slow again']);
    });
  });

  it('reads JSON of other content types, and an empty body as undefined', async () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Orders {
      @EventPattern<string>('created')
      created(@Payload() data: unknown): void {
        seen.add(data);
      }
    }
    const { source } = await startApp(harness, {
      controllers: [Orders],
      transport: { concurrency: 1, maxWaiting: 1 },
    });
    for (const [contentType, body] of [
      ['application/cloudevents+json; charset=utf-8', '{"id":1}'],
      ['application/vnd.acme+json', '{"id":1}'],
      ['text/json', '{"id":1}'],
      ['application/json', ''],
      [undefined, ''],
      ['text/plain', ''],
    ] as const) {
      const raw = { body: Buffer.from(body), pattern: 'created', key: 'k' };
      await harness.publishRaw(source, contentType === undefined ? raw : { ...raw, contentType });
    }
    const order = { id: 1 };
    expect([...(await seen.count(6))]).toEqual([order, order, order, undefined, undefined, '']);
  });

  describe('a result that cannot be encoded', () => {
    const circle: { self?: unknown } = {};
    circle.self = circle;
    it.each([
      ['a bigint', { id: 1n }, /BigInt/],
      ['a cycle', circle, /circular/i],
      ['a function', () => 1, /carries no function/],
      ['what an asynchronous codec rejects', 'wrong', /no schema for it/],
    ])('runs its handler once and tells its caller so: %s', async (_, result, message) => {
      let runs = 0;
      @Controller()
      class Invoices {
        @MessagePattern('create')
        @Retry({ maxRetries: 3, delayMs: 1 })
        create(): unknown {
          runs++;
          return result;
        }
      }
      const transport = result === 'wrong' ? newAsyncCodec().transport : {};
      const { client } = await startApp(harness, { controllers: [Invoices], transport });
      const refusal: unknown = await client.request('create', {}).catch((error: unknown) => error);
      expect(refusal).toMatchObject({ code: 'HANDLER_FAILED', retryable: false });
      expect((refusal as Error).message).toMatch(message);
      expect(runs).toBe(1);
    });

    it('ends its stream, after the items before it', async () => {
      const { transport } = newAsyncCodec();
      @Controller()
      class Invoices {
        @MessagePattern('list')
        list() {
          return of(1, 2, 'wrong', 3);
        }
      }
      const { client } = await startApp(harness, { controllers: [Invoices], transport });
      const items: unknown[] = [];
      const listing = client.send('list', {}).pipe(tap((item) => items.push(item)));
      await expect(lastValueFrom(listing)).rejects.toThrow('no schema for it');
      expect(items).toEqual([1, 2]);
    });
  });
}
