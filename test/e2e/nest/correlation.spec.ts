import { Controller, Get, Module, UseInterceptors } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern } from '@nestjs/microservices';
import { from, switchMap } from 'rxjs';
import { expect, it, onTestFinished } from 'vitest';
import { connectStork, CorrelationInterceptor, StorkClient, type StorkContext } from 'nestjs-stork';
import { Seen } from '../../contract/app.js';
import { Shop } from '../support.js';

async function start() {
  const shop = new Shop();
  onTestFinished(() => shop.broker.close());
  const seen = new Seen<StorkContext>();
  @Controller()
  class Web {
    readonly #client: StorkClient;
    constructor(client: StorkClient) {
      this.#client = client;
    }
    @Get('promise')
    @UseInterceptors(CorrelationInterceptor)
    async promise(): Promise<void> {
      await Promise.resolve();
      await this.#client.publish('sent', 1);
    }
    @Get('stream')
    @UseInterceptors(new CorrelationInterceptor({ header: 'X-Request-Id' }))
    stream() {
      return from(Promise.resolve()).pipe(switchMap(() => this.#client.publish('sent', 1)));
    }
    @Get('nested')
    @UseInterceptors(new CorrelationInterceptor({ header: 'X-Outer' }), CorrelationInterceptor)
    async nested(): Promise<void> {
      await this.#client.publish('sent', 1);
    }
    @Get('plain')
    async plain(): Promise<void> {
      await this.#client.publish('sent', 1, { messageId: 'm-1' });
    }
    @EventPattern<string>('sent')
    @UseInterceptors(CorrelationInterceptor)
    async sent(@Ctx() context: StorkContext): Promise<void> {
      if (context.causationId === undefined) await this.#client.publish('sent', 1);
      seen.add(context);
    }
  }
  @Module({ imports: [shop.stork()], controllers: [Web] })
  class AppModule {}
  const app = await NestFactory.create(AppModule, { logger: false });
  onTestFinished(() => app.close());
  connectStork(app);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
  const url = await app.getUrl();
  const get = async (path: string, headers: Record<string, string> = {}) => {
    const { ok } = await fetch(`${url}/${path}`, { headers });
    expect(ok).toBe(true);
  };
  return { seen, get };
}

it('opens a correlation context for an HTTP request by its header, which continues in the messages of its handler', async () => {
  const { seen, get } = await start();
  await get('promise', { 'x-correlation-id': 'talk-1' });
  await seen.count(2);
  await get('stream', { 'x-request-id': 'talk-2', 'x-correlation-id': 'another' });
  const all = await seen.count(4);
  const seenIds = all.map(({ correlationId, causationId }) => [correlationId, causationId !== undefined]);
  expect(seenIds.toSorted()).toEqual([
    ['talk-1', false],
    ['talk-1', true],
    ['talk-2', false],
    ['talk-2', true],
  ]);
});

it.each([
  ['has no header', {}],
  ['has an invalid id', { 'x-correlation-id': 'two words' }],
  ['has an id that is too long', { 'x-correlation-id': 'x'.repeat(256) }],
])('opens a new one for each request that %s', async (_, headers) => {
  const { seen, get } = await start();
  await get('promise', headers);
  await get('promise', headers);
  const all = await seen.count(4);
  const ids = new Set(all.map(({ correlationId }) => correlationId));
  expect(ids.size).toBe(2);
  for (const id of ids) expect(id).toMatch(/^[\da-f]{8}-[\da-f-]{27}$/);
});

it('takes the id of the innermost interceptor whose header has one', async () => {
  const { seen, get } = await start();
  await get('nested', { 'x-outer': 'outer', 'x-correlation-id': 'inner' });
  await seen.count(2);
  await get('nested', { 'x-outer': 'outer' });
  const all = await seen.count(4);
  expect(all.map(({ correlationId }) => correlationId)).toEqual(['inner', 'inner', 'outer', 'outer']);
});

it('is not open without the interceptor: a message starts its own', async () => {
  const { seen, get } = await start();
  await get('plain');
  const all = await seen.count(2);
  expect(all.map(({ correlationId }) => correlationId)).toEqual(['m-1', 'm-1']);
});

it('refuses an empty header name', () => {
  expect(() => new CorrelationInterceptor({ header: '' })).toThrow(
    'new CorrelationInterceptor({ header }): expected the name of a header, given ""',
  );
});
