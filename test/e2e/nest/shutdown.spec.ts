import { Controller, Logger, type INestApplicationContext } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  connectStork,
  Consume,
  getClientToken,
  Idempotent,
  Retry,
  StorkModule,
  storkMicroservice,
  StorkService,
  Via,
  type IdempotencyStoreDefinition,
  type StorkClient,
  type StorkContext,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { memory, VirtualClock } from 'nestjs-stork/memory';
import type { TransportDefinition } from '../../../lib/nest/bootstrap/transport-definition.js';
import type { DeliverySink, SubscriptionSpec } from '../../../lib/core/port/driver.js';
import { STORK_CLOCK } from '../../../lib/nest/stork.constants.js';
import { Gate, Seen } from '../../contract/app.js';
import { newMemoryStore } from '../../support/stores.js';
import { noteWhenDone } from '../../unit/core/harness.js';
import { closeBySignal, LogLines, Shop } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

const parts = ['handler', 'hook', 'stop', 'leave', 'close', 'store'] as const;
type Part = (typeof parts)[number];

/** A queue transport of which some calls never end. */
function hangingTransport(definition: TransportDefinition, hanging: ReadonlySet<Part>): TransportDefinition {
  const never = (): Promise<never> => new Promise(() => {});
  return {
    ...definition,
    createDriver(environment) {
      const driver = definition.createDriver(environment);
      const subscribe = driver.subscribe.bind(driver);
      driver.subscribe = async (spec: SubscriptionSpec, sink: DeliverySink) =>
        Object.assign(await subscribe(spec, sink), {
          ...(hanging.has('stop') && { stop: never }),
          ...(hanging.has('leave') && { close: never }),
        });
      if (hanging.has('close')) driver.close = never;
      return driver;
    },
  };
}

/** Two transports, each with a message in its handler and one whose `onDeadLetter` has been called. */
async function startShop(
  hangingParts: readonly Part[],
  options: Partial<StorkModuleOptions> = {},
  shape: 'worker' | 'hybrid' = 'worker',
) {
  const clock = new VirtualClock();
  const hanging = new Set(hangingParts);
  const shops = [new Shop(), new Shop()] as const;
  const gate = new Gate();
  if (!hanging.has('handler')) gate.open();
  const begun = new Seen<StorkContext>();
  const deadLettered = new Seen<string>();
  @Controller()
  @Via('main', 'other')
  class Orders {
    @EventPattern<string>('work')
    async work(@Payload() _data: unknown, @Ctx() context: StorkContext): Promise<void> {
      begun.add(context);
      await gate.opened;
    }
    @EventPattern<string>('fails')
    fails(): void {
      throw new Error('no stock');
    }
    /** The application makes the store because of it. */
    @EventPattern<string>('once')
    @Idempotent()
    once(): void {}
  }
  const store: IdempotencyStoreDefinition = {
    validate: () => [],
    createStore: () =>
      Object.assign(newMemoryStore(), {
        close: () => (hanging.has('store') ? new Promise<never>(() => {}) : Promise.resolve()),
      }),
  };
  const onDeadLetter = (): Promise<void> => {
    deadLettered.add('called');
    return hanging.has('hook') ? new Promise(() => {}) : Promise.resolve();
  };
  const [main, other] = shops.map((shop) => hangingTransport(shop.transport(), hanging));
  const stork = StorkModule.forRoot({
    transports: { main: main!, other: other! },
    retry: { maxRetries: 0 },
    deadLetter: { onDeadLetter },
    idempotency: { store },
    ...options,
  });
  const testing = await Test.createTestingModule({ imports: [stork], controllers: [Orders] })
    .overrideProvider(STORK_CLOCK)
    .useValue(clock)
    .compile();
  const app =
    shape === 'worker'
      ? testing.createNestMicroservice({ ...storkMicroservice(), logger: false })
      : testing.createNestApplication({ logger: false });
  if ('startAllMicroservices' in app) {
    connectStork(app);
    await app.startAllMicroservices();
    await app.init();
  } else {
    await app.listen();
  }
  onTestFinished(() => {
    gate.open();
    for (const { broker } of shops) broker.close();
  });
  for (const name of ['main', 'other']) {
    const client = app.get<StorkClient>(getClientToken(name));
    await client.publish('work', 1);
    await client.publish('fails', 1);
  }
  await begun.count(2);
  await deadLettered.count(2);
  return { app, clock, begun, shops, gate };
}

/** How much time of the clock passes until the work has ended. */
async function durationOf(work: Promise<unknown>, clock: VirtualClock): Promise<number> {
  const beganAt = clock.now();
  const ended = noteWhenDone(work);
  await clock.advance(0);
  while (!ended.done) {
    if (clock.now() - beganAt > 600_000) throw new Error('no end after 600 s');
    await clock.advance(50);
  }
  return clock.now() - beganAt;
}

const requeued = (shops: readonly Shop[]) =>
  shops.map(({ broker, queue }) => broker.queue(queue)!.ready + broker.queue(queue)!.unacked);

describe('a shutdown ends within drainTimeoutMs', () => {
  it('of 20 s by default, also if everything hangs on every transport, by close() and by a signal', async () => {
    for (const shape of ['worker', 'hybrid'] as const) {
      for (const stop of [(app: INestApplicationContext) => app.close(), closeBySignal]) {
        const { app, clock, begun, shops } = await startShop(parts, {}, shape);
        expect(await durationOf(stop(app), clock)).toBe(20_000);
        expect(begun.all.map((context) => context.signal.aborted)).toEqual([true, true]);
        expect(requeued(shops)).toEqual([1, 1]);
      }
    }
  });

  it.each([4_000, 400, 0])('of %i ms, if everything hangs', async (drainTimeoutMs) => {
    const { app, clock, shops } = await startShop(parts, { drainTimeoutMs });
    expect(await durationOf(app.close(), clock)).toBeLessThanOrEqual(drainTimeoutMs);
    expect(requeued(shops)).toEqual([1, 1]);
  });

  it.each(parts)('if only the %s hangs', async (part) => {
    const { app, clock } = await startShop([part], { drainTimeoutMs: 4_000 });
    expect(await durationOf(app.close(), clock)).toBeLessThanOrEqual(4_000);
    expect(clock.pendingTimers).toBe(0);
  });

  it('although StorkService.drain() has begun to wait longer', async () => {
    const { app, clock } = await startShop(parts, { drainTimeoutMs: 4_000 });
    const drained = app.get(StorkService).drain({ timeoutMs: 60_000 });
    await clock.advance(1_000);
    expect(await durationOf(app.close(), clock)).toBeLessThanOrEqual(4_000);
    await durationOf(drained, clock);
  });

  it.each([
    ['a handler in its time limit', 'hangs', 60_000],
    ['a handler after its timeout', 'hangs', 200],
    ['onRetry', 'fails', 60_000],
    ['a message that waits in a retry queue', 'redelivered', 60_000],
  ] as const)('and leaves no timer, nor a later log line: %s', async (_, pattern, timeoutMs) => {
    const clock = new VirtualClock();
    const log = new LogLines();
    const begun = new Seen<string>();
    const hang = (): Promise<never> => {
      begun.add('begun');
      return new Promise(() => {});
    };
    @Controller()
    class Orders {
      @EventPattern<string>('hangs')
      @Consume({ timeoutMs })
      hangs(): Promise<never> {
        return hang();
      }
      @EventPattern<string>('fails')
      @Retry({ maxRetries: 1, delayMs: 100, onRetry: hang })
      fails(): void {
        throw new Error('no stock');
      }
      @EventPattern<string>('redelivered')
      @Retry({ maxRetries: 0, redeliverDelaysMs: [30_000] })
      redelivered(): void {
        begun.add('begun');
        throw new Error('no stock');
      }
    }
    // The application's own broker, which no other application can use.
    const transports = { main: memory({ queue: 'orders' }), other: memory({ queue: 'others' }) };
    const stork = StorkModule.forRoot({ transports, drainTimeoutMs: 4_000 });
    const testing = await Test.createTestingModule({ imports: [stork], controllers: [Orders] })
      .overrideProvider(STORK_CLOCK)
      .useValue(clock)
      .compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: log });
    await app.listen();
    await app.get<StorkClient>(getClientToken('main')).publish(pattern, 1);
    await begun.count(1);
    await clock.advance(700);
    expect(await durationOf(app.close(), clock)).toBeLessThanOrEqual(4_000);
    const lines = log.lines.length;
    expect(clock.pendingTimers).toBe(0);
    await clock.advance(120_000);
    expect(log.lines.slice(lines)).toEqual([]);
  });

  it('and takes no time if nothing hangs', async () => {
    const { app, clock } = await startShop([]);
    expect(await durationOf(app.close(), clock)).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it('and loses no message of a handler that never ends', async () => {
    const shop = new Shop();
    const begun = new Seen<string>();
    const newWorker = (work: () => Promise<void>) => {
      @Controller()
      class Worker {
        @EventPattern<string>('work')
        async work(): Promise<void> {
          begun.add('begun');
          await work();
        }
      }
      return Worker;
    };
    const start = async (work: () => Promise<void>) => {
      const imports = [shop.stork({ drainTimeoutMs: 400 })];
      const testing = await Test.createTestingModule({ imports, controllers: [newWorker(work)] }).compile();
      const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
      await app.listen();
      return app;
    };
    const first = await start(() => new Promise(() => {}));
    await first.get<StorkClient>(getClientToken('main')).publish('work', 1);
    await begun.count(1);
    const beganAt = performance.now();
    await first.close();
    // Timers of a busy machine are late.
    expect(performance.now() - beganAt).toBeLessThan(400 + 2_000);
    const second = await start(async () => {});
    await begun.count(2);
    await shop.settled();
    await second.close();
  });
});

describe('StorkService.drain({ timeoutMs })', () => {
  it('shortens the wait for handlers in a running shutdown', async () => {
    const { app, clock, begun, shops } = await startShop(['handler']);
    const closed = app.close();
    await clock.advance(2_000);
    const drained = app.get(StorkService).drain({ timeoutMs: 1_000 });
    expect(await durationOf(closed, clock)).toBe(1_000);
    await drained;
    expect(begun.all.map((context) => context.signal.aborted)).toEqual([true, true]);
    expect(requeued(shops)).toEqual([1, 1]);
  });

  it('does not lengthen it', async () => {
    const { app, clock } = await startShop(['handler']);
    const closed = app.close();
    void app.get(StorkService).drain({ timeoutMs: 60_000 });
    expect(await durationOf(closed, clock)).toBe(15_000);
  });

  it('gives handlers that time, and the leaving 5 s, outside a shutdown', async () => {
    const { app, clock } = await startShop(['handler', 'leave']);
    expect(await durationOf(app.get(StorkService).drain({ timeoutMs: 30_000 }), clock)).toBe(35_000);
    await durationOf(app.close(), clock);
  });
});
