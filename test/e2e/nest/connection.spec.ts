import { Controller, Injectable, Logger } from '@nestjs/common';
import { EventPattern, MessagePattern, type MessageHandler } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { lastValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  connectStork,
  getClientToken,
  StorkClient,
  StorkConfigError,
  StorkModule,
  storkMicroservice,
  type StorkEvents,
  type TransportDefinition,
} from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import type { MemoryBroker } from 'nestjs-stork/memory';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { STORK_SERVER } from '../../../lib/nest/stork.constants.js';
import type { StorkServer } from '../../../lib/nest/server/stork.server.js';
import type { Driver } from '../../../lib/core/port/driver.js';
import { LogLines, Shop } from '../support.js';

let log: LogLines;
beforeEach(() => {
  log = new LogLines();
});
afterEach(() => Logger.overrideLogger(true));

@Controller()
class Orders {
  @EventPattern<string>('created')
  created(): void {}
  @EventPattern<string>('created')
  audited(): void {}
  @MessagePattern({ cmd: 'quote' })
  quote(): number {
    return 7;
  }
}

/** A worker with two transports, each on a broker of its own; not started. */
async function buildWorker() {
  const shops = { main: new Shop(), audit: new Shop() };
  const drivers: Record<string, Driver> = {};
  const recorded = (definition: TransportDefinition): TransportDefinition => ({
    ...definition,
    createDriver: (environment) => (drivers[environment.name] = definition.createDriver(environment)),
  });
  const transports = {
    main: recorded(shops.main.transport()),
    audit: recorded(shops.audit.transport()),
  };
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports })],
    controllers: [Orders],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: log });
  onTestFinished(() => app.close());
  const clientOf = (name: string) => app.get<StorkClient>(getClientToken(name));
  return { app, shops, drivers, clientOf };
}

/** A worker with one transport. */
async function buildSingle() {
  const shop = new Shop();
  const app = (await shop.compile([Orders])).createNestMicroservice({ ...storkMicroservice(), logger: log });
  onTestFinished(() => app.close());
  return { app, shop, client: app.get(StorkClient) };
}

type Recorded = [event: string, ...args: unknown[]];

function record(on: (event: keyof StorkEvents, listener: (...args: unknown[]) => void) => unknown) {
  const events: Recorded[] = [];
  for (const event of ['connect', 'disconnect', 'error', 'blocked', 'unblocked'] as const)
    on(event, (...args) => {
      events.push([event, ...args.map((arg) => (arg instanceof Error ? 'an error' : arg))]);
    });
  return events;
}

describe('status', () => {
  it('of a microservice is that of its worst transport, from the beginning to the end', async () => {
    const { app, shops, drivers } = await buildWorker();
    const states: string[] = [];
    app.status.subscribe((state) => states.push(state));
    expect(states).toEqual(['idle']);
    await app.listen();
    expect(states).toEqual(['idle', 'connecting', 'ready', 'connecting', 'ready']);
    states.length = 0;
    shops.audit.broker.dropConnections();
    expect(states).toEqual(['backoff', 'connecting', 'ready']);
    drivers['main']!.state.move({ value: 'blocked', reason: 'low on disk' });
    drivers['main']!.state.move({ value: 'ready' });
    await app.close();
    expect(states.slice(3)).toEqual(['blocked', 'ready', 'closed']);
  });

  it('of the microservice of a hybrid application is the same', async () => {
    const shop = new Shop();
    const app = (await shop.compile([Orders])).createNestApplication({ logger: false });
    const states: string[] = [];
    connectStork(app).status.subscribe((state) => states.push(state));
    await app.startAllMicroservices();
    await app.init();
    await app.close();
    expect(states).toEqual(['idle', 'connecting', 'ready', 'closed']);
  });

  it('of a client shows the connection though only publish() and request() are called', async () => {
    const { app, client, shop } = await buildSingle();
    const states: string[] = [];
    client.status.subscribe((state) => states.push(state));
    await app.listen();
    await client.publish('created', 1);
    shop.broker.dropConnections();
    expect(await client.request({ cmd: 'quote' }, 1)).toBe(7);
    await app.close();
    expect(states).toEqual(['idle', 'connecting', 'ready', 'backoff', 'connecting', 'ready', 'closed']);
  });

  it('may be subscribed to in a constructor, though the options are invalid', async () => {
    const states: string[] = [];
    @Injectable()
    class Watcher {
      constructor(client: StorkClient) {
        client.status.subscribe((state) => states.push(state));
      }
    }
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports: { main: new Shop().transport({ queue: '' }) } })],
      providers: [Watcher],
    }).compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    await expect(app.listen()).rejects.toThrow(StorkConfigError);
    expect(states).toEqual(['idle']);
    await app.close();
  });
});

describe('events', () => {
  it('tell of each connection, by the name of its transport, to the microservice', async () => {
    const { app, shops, drivers } = await buildWorker();
    const events = record((event, listener) => app.on<StorkEvents>(event, listener));
    await app.listen();
    expect(events).toEqual([
      ['connect', 'main'],
      ['connect', 'audit'],
    ]);
    events.length = 0;
    shops.audit.broker.dropConnections();
    drivers['main']!.state.move({ value: 'blocked', reason: 'low on disk' });
    drivers['main']!.state.move({ value: 'ready' });
    expect(events).toEqual([
      ['disconnect', 'an error', 'audit'],
      ['error', 'an error', 'audit'],
      ['connect', 'audit'],
      ['blocked', { reason: 'low on disk' }, 'main'],
      ['unblocked', 'main'],
    ]);
    events.length = 0;
    await app.close();
    expect(events.toSorted()).toEqual([
      ['disconnect', undefined, 'audit'],
      ['disconnect', undefined, 'main'],
    ]);
  });

  it('tell a client of its own transport alone, and once of each', async () => {
    const { app, shops, drivers, clientOf } = await buildWorker();
    const client = clientOf('audit');
    const events = record((event, listener) => client.on(event, listener));
    await app.listen();
    shops.main.broker.dropConnections();
    expect(events).toEqual([['connect', 'audit']]);
    const { state } = drivers['audit']!;
    state.move({ value: 'blocked', reason: 'memory' });
    const error = new Error('refused');
    const backoff = { value: 'backoff', attempt: 1, delayMs: 1, error } as const;
    state.move(backoff);
    state.move(backoff);
    state.move({ value: 'connecting' });
    state.move({ ...backoff, attempt: 2 });
    state.move({ value: 'ready' });
    expect(events.slice(1)).toEqual([
      ['blocked', { reason: 'memory' }, 'audit'],
      ['disconnect', 'an error', 'audit'],
      ['error', 'an error', 'audit'],
      ['error', 'an error', 'audit'],
      ['connect', 'audit'],
    ]);
  });

  it('log what a listener throws or rejects with, and go on', async () => {
    const { app, client, shop } = await buildSingle();
    const seen: string[] = [];
    client.on('connect', () => {
      throw new Error('thrown by a listener');
    });
    app.on<StorkEvents>('connect', async () => {
      throw new Error('rejected by a listener');
    });
    client.on('connect', (transport) => void seen.push(transport));
    await app.listen();
    shop.broker.dropConnections();
    expect(seen).toEqual(['main', 'main']);
    await client.publish('created', 1);
    expect(log.containing("a listener of 'connect' failed: thrown by a listener")).toHaveLength(2);
    expect(log.containing("a listener of 'connect' failed: rejected by a listener")).toHaveLength(2);
  });

  it('are refused by name if there is no such event, or no function to call', async () => {
    const { app, client } = await buildSingle();
    expect(() => client.on('conect' as 'connect', () => {})).toThrow(
      'expected one of connect, disconnect, error, blocked, unblocked, given "conect"',
    );
    expect(() => app.on('message', () => {})).toThrow(StorkConfigError);
    expect(() => app.on('constructor', () => {})).toThrow(StorkConfigError);
    expect(() => client.on('connect', undefined as never)).toThrow("on('connect'): expected a function");
  });
});

describe('unwrap()', () => {
  it("gives the broker's own client, once it is connected", async () => {
    const { app, client, shop } = await buildSingle();
    expect(() => app.unwrap()).toThrow(
      'main: there is no client to unwrap, the transport is not connected (idle)',
    );
    await app.listen();
    expect(app.unwrap()).toBe(shop.broker);
    expect(client.unwrap<MemoryBroker>().queue(shop.queue)).toBeDefined();
    await app.close();
    expect(() => app.unwrap()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(() => client.unwrap()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  it('gives those of several transports by name', async () => {
    const { app, shops, clientOf } = await buildWorker();
    await app.listen();
    expect(app.unwrap()).toEqual({ main: shops.main.broker, audit: shops.audit.broker });
    expect(app.unwrap<Record<string, unknown>>()['main']).toBe(shops.main.broker);
    expect(clientOf('audit').unwrap()).toBe(shops.audit.broker);
    const thrown: unknown[] = [];
    // At this moment the transport has not reconnected.
    clientOf('audit').on('disconnect', () => {
      for (const unwrap of [() => app.unwrap(), () => clientOf('audit').unwrap()])
        try {
          unwrap();
        } catch (error) {
          thrown.push(error);
        }
      expect(clientOf('main').unwrap()).toBe(shops.main.broker);
    });
    shops.audit.broker.dropConnections();
    const lost = { code: 'CONNECTION_LOST', message: expect.stringContaining('audit: ') as string };
    expect(thrown).toMatchObject([lost, lost]);
    expect(app.unwrap()).toEqual({ main: shops.main.broker, audit: shops.audit.broker });
  });
});

describe('getHandlers()', () => {
  it('lists every handler, and calling one calls no other', async () => {
    const called: string[] = [];
    @Controller()
    class Called {
      @EventPattern<string>('created')
      first(): void {
        called.push('first');
      }
      @EventPattern<string>('created')
      second(): void {
        called.push('second');
      }
      @EventPattern<RegExp>(/^audit\./)
      audit(): void {}
      @MessagePattern({ cmd: 'quote' })
      quote(): void {}
    }
    const shop = new Shop();
    const app = (await shop.compile([Called])).createNestMicroservice({
      ...storkMicroservice(),
      logger: log,
    });
    onTestFinished(() => app.close());
    await app.listen();
    const server = app.get<StorkServer>(STORK_SERVER);
    expect([...server.getHandlers().keys()].toSorted()).toEqual([
      '/^audit\\./',
      'created',
      '{"cmd":"quote"}',
    ]);
    const chain = (handler: MessageHandler | null | undefined): (boolean | undefined)[] =>
      handler ? [handler.isEventHandler, ...chain(handler.next as MessageHandler | undefined)] : [];
    expect(chain(server.getHandlerByPattern('created'))).toEqual([true, true]);
    expect(chain(server.getHandlerByPattern('{"cmd":"quote"}'))).toEqual([false]);
    expect(server.getHandlerByPattern('unknown')).toBeNull();
    await app.get(StorkClient).publish('created', 1);
    await shop.settled();
    expect(called.toSorted()).toEqual(['first', 'second']);
  });
});

describe('a client whose broker is away', () => {
  /** On a busy machine timers are late; without `startTimeoutMs` it would take 30 s. */
  const promptMs = 15_000;
  const transports: [string, TransportDefinition][] = [
    [
      'RabbitMQ',
      rabbitmq({
        url: 'amqp://127.0.0.1:1',
        queue: 'orders',
        handlers: 'none',
        publishTo: { queue: 'orders' },
      }),
    ],
    ['Kafka', kafka({ brokers: ['127.0.0.1:1'] })],
  ];

  it.each(transports)('gets CONNECTION_LOST after startTimeoutMs: %s', async (_, main) => {
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports: { main }, startTimeoutMs: 1_000 })],
    }).compile();
    const app = testing.createNestApplication({ logger: false });
    onTestFinished(() => app.close());
    await app.init();
    const client = app.get(StorkClient);
    const lost = { code: 'CONNECTION_LOST' };
    const began = performance.now();
    await Promise.all([
      expect(client.connect()).rejects.toMatchObject(lost),
      expect(client.publish('created', 1)).rejects.toMatchObject(lost),
      expect(client.request('quote', 1)).rejects.toMatchObject(lost),
      expect(lastValueFrom(client.send('quote', 1))).rejects.toMatchObject(lost),
      expect(lastValueFrom(client.emit('created', 1))).rejects.toMatchObject(lost),
    ]);
    expect(performance.now() - began).toBeLessThan(promptMs);
    expect(performance.now() - began).toBeGreaterThan(900);
  });
});

describe('a client that was closed', () => {
  it('says so on each call, without a trace of it at the broker, until connect() opens it', async () => {
    const { app, client } = await buildSingle();
    await app.listen();
    client.close();
    const closed = { code: 'CLOSED', message: expect.stringContaining('connect() opens it again') as string };
    await expect(client.publish('created', 1)).rejects.toMatchObject(closed);
    await expect(client.request({ cmd: 'quote' }, 1)).rejects.toMatchObject(closed);
    await expect(lastValueFrom(client.send({ cmd: 'quote' }, 1))).rejects.toMatchObject(closed);
    await expect(lastValueFrom(client.emit('created', 1))).rejects.toMatchObject(closed);
    expect(() => client.unwrap()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    await client.connect();
    expect(await lastValueFrom(client.send({ cmd: 'quote' }, 1))).toBe(7);
    expect(await client.request({ cmd: 'quote' }, 1)).toBe(7);
    await lastValueFrom(client.emit('created', 1), { defaultValue: undefined });
  });

  it('decides at the subscription of a send(), and logs an emit() that nobody watches', async () => {
    const { app, client } = await buildSingle();
    await app.listen();
    const before = client.send({ cmd: 'quote' }, 1);
    client.close();
    const after = client.send({ cmd: 'quote' }, 1);
    await expect(lastValueFrom(before)).rejects.toMatchObject({ code: 'CLOSED' });
    client.emit('created', 1);
    await new Promise(setImmediate);
    expect(
      log.containing('emit("created") failed: the client of the transport "main" is closed'),
    ).toHaveLength(1);
    await client.connect();
    expect(await lastValueFrom(after)).toBe(7);
  });

  it('stays closed once the application is closed', async () => {
    const { app, client } = await buildSingle();
    await app.listen();
    client.close();
    await app.close();
    await expect(client.connect()).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(client.publish('created', 1)).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(lastValueFrom(client.send({ cmd: 'quote' }, 1))).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
