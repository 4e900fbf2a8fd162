import { Controller, Injectable, Module, type Type } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InjectClient, StorkClient, storkMicroservice, StorkModule } from 'nestjs-stork';
import { memory, MemoryBroker } from 'nestjs-stork/memory';
import { currentCorrelation } from '../../../lib/core/publish/correlation-context.js';
import { Seen } from '../../contract/app.js';

/** Starts a worker with the controller and publishes one message without a `StorkClient`. */
async function startWith(controller: Type, providers: readonly Type[] = []): Promise<void> {
  const broker = new MemoryBroker();
  @Module({
    imports: [StorkModule.forRoot({ transports: { main: memory({ queue: 'orders', broker }) } })],
    controllers: [controller],
    providers: [...providers],
  })
  class App {}
  const testing = await Test.createTestingModule({ imports: [App] }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  await app.listen();
  broker.publish('', 'orders', {
    body: Buffer.from('1'),
    properties: { type: 'order', messageId: 'm-1', contentType: 'application/json' },
  });
}

describe('the correlation context of a handler', () => {
  it('is not opened in an application that injects no client, which saves its cost', async () => {
    const seen = new Seen<unknown>();
    @Controller()
    class Reader {
      @EventPattern<string>('order')
      order(): void {
        seen.add(currentCorrelation());
      }
    }
    await startWith(Reader);
    expect(await seen.count(1)).toEqual([undefined]);
  });

  it('is opened from the first message if any provider injects a client', async () => {
    const seen = new Seen<string | undefined>();
    @Injectable()
    class Sender {
      @InjectClient('main')
      readonly client!: StorkClient;
    }
    @Controller()
    class Reader {
      @EventPattern<string>('order')
      async order(): Promise<void> {
        await Promise.resolve();
        seen.add(currentCorrelation()?.messageId);
      }
    }
    await startWith(Reader, [Sender]);
    expect(await seen.count(1)).toEqual(['m-1']);
  });
});
