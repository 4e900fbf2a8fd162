import { Controller, Logger } from '@nestjs/common';
import { Ctx, EventPattern } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  Consume,
  DeadLetterService,
  StorkContext,
  StorkModule,
  StorkService,
  storkMicroservice,
  type UnhandledRedelivery,
} from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { memory, MemoryBroker, type MemoryOptions } from 'nestjs-stork/memory';
import { eventually } from '../../contract/app.js';
import { LogLines } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

@Controller()
class Orders {
  @EventPattern<string>('created')
  created(): void {}
}

const exchange = { name: 'shop', type: 'topic' } as const;

async function start(options: Partial<MemoryOptions>, controllers = [Orders]) {
  const logs = new LogLines();
  const testing = await Test.createTestingModule({
    imports: [
      StorkModule.forRoot({
        transports: { main: memory(options) },
        retry: { maxRetries: 0 },
      }),
    ],
    controllers,
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: logs });
  onTestFinished(() => app.close());
  await app.listen();
  return { app, logs, counts: () => app.get(StorkService).state()['main']!.counts };
}

describe('a message that no handler of the process takes', () => {
  it('returns to its own queue alone, and is warned of once', async () => {
    const broker = new MemoryBroker();
    const onUnhandled = { redeliverMs: 5, times: 4 };
    const { logs, counts } = await start({ queue: 'orders', broker, exchange, onUnhandled });
    expect(broker.queue('orders.retry.5')).toBeDefined();
    broker.declareQueue('audit', {});
    broker.bind('shop', 'audit', '#');
    broker.bind('shop', 'orders', '#');
    const publish = (n: number) =>
      broker.publish('shop', 'refunded', {
        body: Buffer.from(String(n)),
        headers: {},
        properties: { messageId: `m-${n}`, correlationId: 'c', contentType: 'application/json' },
      });
    for (let n = 0; n < 3; n++) publish(n);
    const kept = await eventually(async () => {
      const letters = broker.queue('orders.dlq')!.peek();
      return letters.length === 3 ? letters : undefined;
    }, 'three dead letters');
    expect(broker.queue('audit')!.peek()).toHaveLength(3);
    expect(counts()['unhandled-redelivered']).toBe(12);
    expect(logs.containing('return through the broker')).toEqual([
      'main: no handler for pattern "refunded": such messages return through the broker ' +
        'every 5 ms, up to 4 times, then they are dead-lettered. This is expected while a newer version is ' +
        "deployed; otherwise add the handler, or set onUnhandled to 'dead-letter' or 'skip'",
    ]);
    expect(kept.map(({ properties }) => [properties.messageId, properties.correlationId])).toEqual([
      ['m-0', 'c'],
      ['m-1', 'c'],
      ['m-2', 'c'],
    ]);
  });

  it('tells the operator how often it was sent back', async () => {
    const broker = new MemoryBroker();
    const onUnhandled = { redeliverMs: 1, times: 2 };
    const { app } = await start({ queue: 'orders', broker, onUnhandled });
    broker.publish('', 'orders', { body: Buffer.from('1'), headers: {}, properties: { type: 'refunded' } });
    const [deadLetter] = await eventually(async () => {
      const found = await app.get(DeadLetterService).list();
      return found.length === 0 ? undefined : found;
    }, 'the dead letter');
    expect(deadLetter).toMatchObject({ reason: 'no-handler', attempts: 1, pattern: 'refunded' });
    expect(deadLetter!.error!.message).toContain('sent back 2 times');
  });

  it('has no effect on a transport without handlers', async () => {
    const broker = new MemoryBroker();
    const onUnhandled = { redeliverMs: 5, times: 4 };
    await start({ queue: 'orders', broker, handlers: 'none', onUnhandled });
    expect([broker.queue('orders'), broker.queue('orders.retry.5')]).toEqual([undefined, undefined]);
  });

  it('does not change how a log delays the retries of handlers', async () => {
    const attempts: number[] = [];
    @Controller()
    class Busy {
      @Consume({ order: 'key' })
      @EventPattern<string>('work')
      work(@Ctx() ctx: StorkContext): void {
        attempts.push(ctx.attempt);
        if (ctx.attempt === 1) ctx.retry({ delayMs: 20 });
      }
    }
    const broker = new MemoryBroker();
    const testing = await Test.createTestingModule({
      imports: [
        StorkModule.forRoot({
          transports: {
            main: memory({ mode: 'log', topic: 'work', broker, onUnhandled: { redeliverMs: 7, times: 1 } }),
          },
          retry: { maxRetries: 1 },
        }),
      ],
      controllers: [Busy],
    }).compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    onTestFinished(() => app.close());
    await app.listen();
    broker.topic('work')!.append({ key: 'k', value: Buffer.from('1'), headers: {}, timestamp: Date.now() });
    await expect.poll(() => attempts).toEqual([1, 2]);
    const counts = app.get(StorkService).state()['main']!.counts;
    expect([counts.retried, counts.redelivered]).toEqual([1, undefined]);
  });
});

describe('the option onUnhandled', () => {
  const refusal = async (onUnhandled: unknown): Promise<string> => {
    const options = { queue: 'orders', broker: new MemoryBroker(), onUnhandled } as Partial<MemoryOptions>;
    return start(options).then(
      () => 'started',
      (error: Error) => error.message,
    );
  };
  const name = 'transports.main.onUnhandled';
  const forms = "expected 'dead-letter', 'skip' or { redeliverMs, times }";
  const delay = 'expected an integer from 1 to 2419200000, 28 days';
  const times = 'expected an integer from 1 to 1000000';

  it.each<[unknown, string]>([
    ['drop', `${name}: ${forms}, given "drop"`],
    [null, `${name}: ${forms}, given null`],
    [[], `${name}: ${forms}, given an array of 0`],
    [5_000, `${name}: ${forms}, given 5000 (number)`],
    [{ redeliverMs: 0, times: 1 }, `${name}.redeliverMs: ${delay}, given 0 (number)`],
    [{ redeliverMs: 1.5, times: 1 }, `${name}.redeliverMs: ${delay}, given 1.5 (number)`],
    [{ redeliverMs: 2_419_200_001, times: 1 }, `${name}.redeliverMs: ${delay}, given 2419200001 (number)`],
    [{ redeliverMs: '5s', times: 1 }, `${name}.redeliverMs: ${delay}, given "5s"`],
    [{ times: 1 }, `${name}.redeliverMs: ${delay}, given undefined`],
    [{ redeliverMs: 1 }, `${name}.times: ${times}, given undefined`],
    [{ redeliverMs: 1, times: 0 }, `${name}.times: ${times}, given 0 (number)`],
    [{ redeliverMs: 1, times: Infinity }, `${name}.times: ${times}, given Infinity (number)`],
    [{ redeliverMs: 1, times: 1, delayMs: 5 }, `${name}.delayMs: expected no such option, given 5 (number)`],
  ])('%j is refused', async (onUnhandled, expected) => {
    expect(await refusal(onUnhandled)).toContain(expected);
  });

  it('names every problem at once', async () => {
    const message = await refusal({});
    expect(message).toContain('redeliverMs');
    expect(message).toContain('times');
  });

  it.each<'dead-letter' | 'skip' | UnhandledRedelivery | undefined>([
    'dead-letter',
    'skip',
    undefined,
    { redeliverMs: 1, times: 1 },
    { redeliverMs: 2_419_200_000, times: 1_000_000 },
  ])('%j is accepted', async (onUnhandled) => {
    expect(await refusal(onUnhandled)).toBe('started');
  });

  it('is refused by name on Kafka in the form of delays', async () => {
    const onUnhandled = { redeliverMs: 100, times: 5 };
    const transports = { main: kafka({ brokers: ['127.0.0.1:1'], groupId: 'g', onUnhandled }) };
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports })],
      controllers: [Orders],
    }).compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    onTestFinished(() => app.close());
    await expect(app.listen()).rejects.toThrow(
      "transports.main.onUnhandled: expected 'dead-letter' or 'skip': Kafka does not send messages back yet, given an object",
    );
  });
});
