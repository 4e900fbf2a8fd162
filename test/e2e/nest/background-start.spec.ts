import { Controller, Get } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  connectStork,
  ConnectionLostError,
  getClientToken,
  StorkClient,
  StorkModule,
  storkMicroservice,
  StorkService,
  type StorkModuleOptions,
  type TransportDefinition,
} from 'nestjs-stork';
import { memory, VirtualClock } from 'nestjs-stork/memory';
import type { Driver } from '../../../lib/core/port/driver.js';
import { STORK_CLOCK } from '../../../lib/nest/stork.constants.js';
import { Seen } from '../../contract/app.js';
import { LogLines, Shop } from '../support.js';

type Step = 'connect' | 'declare' | 'subscribe';
type Fault = (signal?: AbortSignal) => Promise<never>;

/** A transport whose steps of the start a test can make fail or hang. */
class Breakable {
  readonly attempts = new Map<Step, number>();
  readonly #faults: Map<Step, Fault>;

  constructor(...faults: readonly (readonly [Step, Fault])[]) {
    this.#faults = new Map(faults);
  }

  mend(): void {
    this.#faults.clear();
  }

  wrap(definition: TransportDefinition): TransportDefinition {
    return { ...definition, createDriver: (environment) => this.#wrap(definition.createDriver(environment)) };
  }

  #wrap(driver: Driver): Driver {
    const connect = driver.connect.bind(driver);
    const declare = driver.declare.bind(driver);
    const subscribe = driver.subscribe.bind(driver);
    return Object.assign(driver, {
      connect: (signal) => this.#attempt('connect', signal) ?? connect(signal),
      declare: (spec) => this.#attempt('declare') ?? declare(spec),
      subscribe: (spec, sink) => this.#attempt('subscribe') ?? subscribe(spec, sink),
    } satisfies Partial<Driver>);
  }

  #attempt(step: Step, signal?: AbortSignal): Promise<never> | undefined {
    this.attempts.set(step, (this.attempts.get(step) ?? 0) + 1);
    return this.#faults.get(step)?.(signal);
  }
}

/** As a driver does: until the signal aborts. */
const hang: Fault = (signal) =>
  new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
const away = async (): Promise<never> => {
  throw new ConnectionLostError('connect ECONNREFUSED');
};

async function build(breakable: Breakable, module: Partial<StorkModuleOptions> = {}) {
  const [shop, clock, logs, seen] = [new Shop(), new VirtualClock(), new LogLines(), new Seen<unknown>()];
  const failures: string[] = [];
  @Controller()
  class Orders {
    @Get('health')
    health(): string {
      return 'serving';
    }
    @EventPattern<string>('order.created')
    created(@Payload() order: unknown): void {
      seen.add(order);
    }
  }
  const transports = { main: breakable.wrap(shop.transport({ required: false })) };
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports, ...module })],
    controllers: [Orders],
  })
    .overrideProvider(STORK_CLOCK)
    .useValue(clock)
    .compile();
  const error = (line: unknown): void => void failures.push(String(line));
  const logger = { ...logs, error };
  const service = testing.get(StorkService);
  const client = testing.get<StorkClient>(getClientToken('main'));
  const state = () => service.state()['main']!;
  return { testing, logger, shop, clock, logs, failures, seen, service, client, state };
}

/** A started application that serves HTTP. */
async function start(breakable: Breakable, module?: Partial<StorkModuleOptions>) {
  const built = await build(breakable, module);
  const app = built.testing.createNestApplication({ logger: built.logger });
  onTestFinished(() => app.close());
  connectStork(app);
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
  await built.clock.advance(0);
  return { ...built, app };
}

const notStarted = 'main: not started, the application runs without it and retries';

describe('required: false', () => {
  it('serves HTTP while the broker is away, and consumes once it is there', async () => {
    const broker = new Breakable(['connect', away]);
    const { app, clock, client, logs, seen, state } = await start(broker);
    expect(await (await fetch(`${await app.getUrl()}/health`)).text()).toBe('serving');
    expect(state()).toMatchObject({
      required: false,
      started: false,
      startError: { code: 'CONNECTION_LOST' },
    });
    await clock.advance(600_000);
    expect(broker.attempts.get('connect')).toBeGreaterThan(20);
    expect(logs.containing(notStarted)).toEqual([`${notStarted}: connect ECONNREFUSED`]);
    broker.mend();
    await clock.advance(30_000);
    expect(state()).toMatchObject({ required: false, started: true, startError: undefined });
    expect(logs.containing('main: started, after')).toHaveLength(1);
    await client.publish('order.created', 1);
    expect(await seen.count(1)).toEqual([1]);
    await clock.advance(600_000);
    expect(broker.attempts.get('subscribe')).toBe(1);
  });

  it('lets a worker listen without its broker', async () => {
    const broker = new Breakable(['connect', away]);
    const { testing, logger, clock, client, seen } = await build(broker);
    const app = testing.createNestMicroservice(storkMicroservice({ logger }));
    onTestFinished(() => app.close());
    await app.listen();
    broker.mend();
    await clock.advance(30_000);
    await client.publish('order.created', 1);
    expect(await seen.count(1)).toEqual([1]);
  });

  it('starts at once where the broker is there', async () => {
    const { state, client, seen, logs } = await start(new Breakable());
    expect(state()).toMatchObject({ started: true, startError: undefined });
    await client.publish('order.created', 1);
    expect(await seen.count(1)).toEqual([1]);
    expect(logs.containing('started, after')).toEqual([]);
  });

  it('logs a refusal by the broker as an error, once, and starts when it is lifted', async () => {
    const { shop, testing, logger, failures, clock, client, seen, state } = await build(new Breakable());
    shop.broker.declareQueue(shop.queue, { maxPriority: 3 });
    const app = testing.createNestMicroservice(storkMicroservice({ logger }));
    onTestFinished(() => app.close());
    await app.listen();
    await clock.advance(120_000);
    expect(failures).toHaveLength(1);
    expect(failures[0]).toContain(`${notStarted}: `);
    expect(state()).toMatchObject({ started: false, startError: { code: 'CONFIG' } });
    shop.broker.deleteQueue(shop.queue);
    await clock.advance(30_000);
    await client.publish('order.created', 1);
    expect(await seen.count(1)).toEqual([1]);
  });

  it.each<Step>(['connect', 'declare', 'subscribe'])('repeats the start when %s fails', async (step) => {
    const broker = new Breakable([step, away]);
    const { clock, client, seen, state } = await start(broker);
    expect(state()).toMatchObject({ started: false, startError: { code: 'CONNECTION_LOST' } });
    broker.mend();
    await clock.advance(30_000);
    expect(state().started).toBe(true);
    await client.publish('order.created', step);
    expect(await seen.count(1)).toEqual([step]);
  });

  it('consumes only once the application has bootstrapped', async () => {
    const broker = new Breakable();
    const { testing, logger, clock, state } = await build(broker);
    const app = testing.createNestApplication({ logger });
    onTestFinished(() => app.close());
    connectStork(app);
    await app.startAllMicroservices();
    await clock.advance(10_000);
    expect([...broker.attempts.keys()]).toEqual(['connect', 'declare']);
    expect(state().started).toBe(false);
    await app.init();
    await clock.advance(0);
    expect(state().started).toBe(true);
  });

  it('consumes nothing after StorkService.drain(), and still sends', async () => {
    const broker = new Breakable(['connect', away]);
    const { shop, clock, client, service, seen } = await start(broker);
    await service.drain();
    broker.mend();
    await clock.advance(30_000);
    await client.publish('order.created', 1);
    expect(shop.broker.queue(shop.queue)).toMatchObject({ ready: 1, consumers: 0 });
    expect(seen.all).toEqual([]);
  });

  it.each<[string, Step, Fault]>([
    ['between two attempts', 'connect', away],
    ['while it connects', 'connect', hang],
    ['while it declares', 'declare', hang],
  ])('ends with the application: %s', async (_, step, fault) => {
    const broker = new Breakable([step, fault]);
    const { app, clock, logs, failures } = await start(broker);
    const attempts = broker.attempts.get(step);
    await app.close();
    const lines = logs.lines.length;
    expect(clock.pendingTimers).toBe(0);
    broker.mend();
    await clock.advance(600_000);
    expect(broker.attempts.get(step)).toBe(attempts);
    expect(logs.lines.slice(lines)).toEqual([]);
    expect(failures).toEqual([]);
  });

  it.each<[string, Fault]>([
    ['refuses connections', away],
    ['does not answer', hang],
  ])('fails what is sent meanwhile as without a connection: a broker that %s', async (_, fault) => {
    const { client, clock } = await start(new Breakable(['connect', fault]), { startTimeoutMs: 5_000 });
    const sent = [client.publish('order.created', 1), client.request('order.quote', 1, { timeoutMs: 1_000 })];
    const outcomes = Promise.all(sent.map((one) => one.catch((error: unknown) => error)));
    await clock.advance(5_000);
    const [published, requested] = await outcomes;
    expect(published).toMatchObject({ code: 'CONNECTION_LOST' });
    expect((requested as { code: string }).code).toMatch(/^(CONNECTION_LOST|REQUEST_TIMEOUT)$/);
  });

  it('holds for its transport alone', async () => {
    const broker = new Breakable(['connect', away]);
    const [other, required] = [new Shop(), new Breakable(['connect', hang])];
    const { testing, logger, clock, service } = await build(broker, {
      transports: {
        main: broker.wrap(other.transport({ required: false })),
        other: required.wrap(other.transport({ handlers: 'none', publishTo: { queue: 'elsewhere' } })),
      },
      startTimeoutMs: 5_000,
    });
    const app = testing.createNestMicroservice(storkMicroservice({ logger }));
    const listening = app.listen().catch((error: unknown) => error);
    await clock.advance(5_000);
    expect(await listening).toMatchObject({ code: 'CONNECTION_LOST' });
    await clock.advance(120_000);
    expect(broker.attempts.size).toBe(0);
    expect(service.state()['other']).toMatchObject({ required: true, started: false });
    await app.close();
    expect(clock.pendingTimers).toBe(0);
  });

  it.each<[object, string]>([
    [{ queue: '' }, 'transports.main.queue: expected the name of the queue'],
    [{ required: 'no' }, 'transports.main.required: expected true or false'],
    [{ required: null }, 'transports.main.required: expected true or false'],
  ])('rejects the start with wrong options all the same: %o', async (options, expected) => {
    const transports = { main: memory({ queue: 'orders', required: false, ...options }) };
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports })],
    }).compile();
    const app = testing.createNestApplication({ logger: false });
    connectStork(app);
    await expect(app.startAllMicroservices()).rejects.toThrow(expected);
  });
});
