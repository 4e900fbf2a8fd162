import { Controller, type INestMicroservice, type Type } from '@nestjs/common';
import {
  ClientKafka,
  Ctx,
  EventPattern,
  KafkaContext as NestKafkaContext,
  MessagePattern,
  Payload,
  RpcException,
  Transport,
} from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { logLevel } from 'kafkajs';
import { concat, defer, firstValueFrom, from, ignoreElements, of, throwError, timer, toArray } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RemoteError } from 'nestjs-stork';
import { KafkaContext, type KafkaOptions } from 'nestjs-stork/kafka';
import { readText, type MessageHeaders } from '../../../lib/core/message/headers.js';
import { Seen } from '../../contract/app.js';
import {
  brokers,
  buildApp,
  reconnect,
  textOf,
  uniqueTopic,
  useForeign,
  type Foreign,
  type KafkaApp,
} from './kafka-app.js';

interface Arrival {
  readonly data: unknown;
  readonly key: string | undefined;
  readonly tenant: string | undefined;
}

interface Service {
  readonly controller: Type;
  readonly topics: readonly string[];
  readonly name: (pattern: string) => string;
  readonly arrivals: Seen<Arrival>;
}

const noValues = timer(20).pipe(ignoreElements());

/** Patterns are topics: each service of this file has its own. */
function service(): Service {
  const prefix = uniqueTopic();
  const name = (pattern: string): string => `${prefix}.${pattern}`;
  const arrivals = new Seen<Arrival>();

  @Controller()
  class Peer {
    @MessagePattern<string>(name('same'))
    same(@Payload() data: unknown): unknown {
      return data;
    }
    @MessagePattern<string>(name('describe'))
    describe(@Payload() data: unknown): string {
      return data === null ? 'null' : Array.isArray(data) ? 'array' : typeof data;
    }
    @MessagePattern<string>(name('answer'))
    answer(@Payload() { kind }: { kind: string }): unknown {
      switch (kind) {
        case 'undefined':
          return undefined;
        case 'null':
          return null;
        case 'number':
          return 42;
        case 'object':
          return { n: 1 };
        case 'text like JSON':
          return '[draft] {x';
        case 'rpc text':
          throw new RpcException('no teapot left');
        case 'rpc object':
          throw new RpcException({ code: 'OUT_OF_STOCK', message: 'no teapot left', details: { sku: 7 } });
        case 'error':
          throw new TypeError('a bug');
        case 'values':
          return from(['a', 'b', 'c']);
        case 'nulls':
          return from([null, 1, null]);
        case 'values, then the end':
          return concat(from(['a', 'b']), noValues);
        case 'fails at last':
          return concat(
            of('a'),
            noValues,
            defer(() => throwError(() => new RpcException({ code: 'LATE', message: 'too late' }))),
          );
        default:
          throw new Error(`what is ${kind}?`);
      }
    }
    @EventPattern<string>(name('event'))
    event(@Payload() data: unknown, @Ctx() context: KafkaContext | NestKafkaContext): void {
      const { headers, key } = context instanceof NestKafkaContext ? context.getMessage() : context;
      arrivals.add({ data, key: key?.toString(), tenant: readText(headers as MessageHeaders, 'tenant') });
    }
  }
  return { controller: Peer, name, arrivals, topics: ['same', 'describe', 'answer', 'event'].map(name) };
}

async function makeTopics(foreign: Foreign, topics: readonly string[]): Promise<void> {
  await Promise.all(topics.flatMap((topic) => [foreign.topic(topic), foreign.topic(`${topic}.reply`)]));
}

describe.skipIf(brokers === undefined)("Nest's own Kafka client", () => {
  const foreign = useForeign();
  const auto = service();
  const nest = service();
  let apps: readonly KafkaApp[];
  let client: ClientKafka;

  beforeAll(async () => {
    const all = [...auto.topics, ...nest.topics];
    await makeTopics(foreign(), all);
    const start = async ({ controller }: Service, options: Partial<KafkaOptions>): Promise<KafkaApp> => {
      const built = await buildApp({ controllers: [controller], options });
      await built.app.listen();
      return built;
    };
    apps = await Promise.all([start(auto, {}), start(nest, { wire: 'nest' })]);
    client = new ClientKafka({
      client: { brokers: [...brokers!], logLevel: logLevel.NOTHING },
      consumer: { groupId: uniqueTopic() },
    });
    for (const topic of all) client.subscribeToResponseOf(topic);
    await client.connect();
  });
  afterAll(async () => {
    if (brokers === undefined) return;
    await client.close();
    await Promise.all(apps.map((app) => app.close()));
  });

  const ask = (topic: string, data: unknown): Promise<unknown> => firstValueFrom(client.send(topic, data));
  const askAll = (topic: string, data: unknown): Promise<unknown[]> =>
    firstValueFrom(client.send(topic, data).pipe(toArray()));

  it.each([
    ['an object', { a: 1, b: [true, null] }],
    ['a list', [1, 2, 3]],
    ['text', 'hello'],
    ['empty text', ''],
    ['text that begins like JSON', '[draft] {x'],
    ['text of another alphabet', 'Grüße, 世界'],
  ])('gets %s back as it sent it', async (_what, data) => {
    expect(await ask(auto.name('same'), data)).toEqual(data);
    expect(await ask(nest.name('same'), data)).toEqual(data);
  });

  it.each([
    ['text', 'hello', 'string'],
    ['a number', 5, 'number'],
    ['true', true, 'boolean'],
    ['an object', {}, 'object'],
    ['a list', [], 'array'],
    ['text that begins like JSON', '{x', 'string'],
  ])('sends %s, and the handler sees its kind', async (_what, data, kind) => {
    expect(await ask(auto.name('describe'), data)).toBe(kind);
  });

  it('gets every kind of reply', async () => {
    const answer = (kind: string) => askAll(auto.name('answer'), { kind });
    expect(await answer('object')).toEqual([{ n: 1 }]);
    // As from Nest's own server: numbers are sent as text.
    expect(await answer('number')).toEqual(['42']);
    expect(await answer('null')).toEqual([null]);
    expect(await answer('text like JSON')).toEqual(['[draft] {x']);
    // As from Nest's own server: `firstValueFrom()` has a value.
    expect(await answer('undefined')).toEqual([null]);
    expect(await askAll(nest.name('answer'), { kind: 'undefined' })).toEqual([null]);
  });

  it.each([
    ['values', ['a', 'b', 'c']],
    ['values, then the end', ['a', 'b']],
    ['nulls', [null, '1', null]],
  ])('gets a stream of %s without a null at its end', async (kind, items) => {
    expect(await askAll(auto.name('answer'), { kind })).toEqual(items);
    expect(await askAll(nest.name('answer'), { kind })).toEqual(items);
  });

  it('gets errors as objects', async () => {
    const failure = (kind: string) => ask(auto.name('answer'), { kind }).catch((error: unknown) => error);
    expect(await failure('rpc text')).toMatchObject({ message: 'no teapot left', retryable: false });
    const { details, ...error } = (await failure('rpc object')) as { details: unknown };
    expect(error).toMatchObject({ code: 'OUT_OF_STOCK', message: 'no teapot left' });
    expect(details).toEqual({ code: 'OUT_OF_STOCK', message: 'no teapot left', details: { sku: 7 } });
    expect(await failure('error')).toMatchObject({ name: 'TypeError', message: 'a bug', retryable: true });
    expect(await failure('fails at last')).toBe('a');
  });

  it('sends events with objects, keys and headers', async () => {
    const message = { key: 'k-1', value: { n: 1 }, headers: { tenant: 'acme' } };
    await firstValueFrom(client.emit(auto.name('event'), message), { defaultValue: undefined });
    await auto.arrivals.count(1);
    expect(auto.arrivals.all[0]).toEqual({ data: { n: 1 }, key: 'k-1', tenant: 'acme' });
    const tombstone = { key: 'k-1', value: null };
    await firstValueFrom(client.emit(auto.name('event'), tombstone), { defaultValue: undefined });
    expect((await auto.arrivals.count(2))[1]).toMatchObject({ data: null, key: 'k-1' });
  });

  it('sends events of bare text where wire is nest; otherwise they become dead letters', async () => {
    await firstValueFrom(client.emit(nest.name('event'), 'hello'), { defaultValue: undefined });
    expect((await nest.arrivals.count(1))[0]).toMatchObject({ data: 'hello' });
    await firstValueFrom(client.emit(auto.name('event'), 'hello'), { defaultValue: undefined });
    const [deadLetter] = await foreign().records(`${auto.name('event')}.dlq`, 1);
    expect(textOf(deadLetter, 'stork-death-reason')).toBe('undecodable');
    expect(deadLetter!.value!.toString()).toBe('hello');
  });
});

describe.skipIf(brokers === undefined)("Nest's own Kafka server", () => {
  const foreign = useForeign();
  const peer = service();
  let server: INestMicroservice;
  let auto: KafkaApp;
  let nest: KafkaApp;

  beforeAll(async () => {
    await makeTopics(foreign(), peer.topics);
    const testing = await Test.createTestingModule({ controllers: [peer.controller] }).compile();
    server = testing.createNestMicroservice({
      transport: Transport.KAFKA,
      options: {
        client: { brokers: [...brokers!], logLevel: logLevel.NOTHING },
        consumer: { groupId: uniqueTopic() },
        subscribe: { fromBeginning: true },
      },
      logger: false,
    });
    const clientOf = async (options: Partial<KafkaOptions>): Promise<KafkaApp> => {
      const replyTopic = foreign().noted(`${uniqueTopic()}.reply`);
      const built = await buildApp({ options: { replyTopic, reconnect, ...options } });
      await built.app.listen();
      return built;
    };
    [auto, nest] = await Promise.all([clientOf({}), clientOf({ wire: 'nest' }), server.listen()]);
  });
  afterAll(async () => {
    if (brokers === undefined) return;
    await Promise.all([server.close(), auto.close(), nest.close()]);
  });

  it('answers our client', async () => {
    const answer = (kind: string) => nest.client.request(peer.name('answer'), { kind });
    expect(await answer('object')).toEqual({ n: 1 });
    expect(await answer('number')).toBe(42);
    expect(await answer('text like JSON')).toBe('[draft] {x');
    expect(await answer('undefined')).toBeUndefined();
    // Its wire format does not distinguish null from undefined.
    expect(await answer('null')).toBeUndefined();
    expect(await nest.client.request(peer.name('same'), { deep: [1, { x: null }] })).toEqual({
      deep: [1, { x: null }],
    });
    expect(await auto.client.request(peer.name('answer'), { kind: 'object' })).toEqual({ n: 1 });
  });

  it('gets text without quotes where wire is nest', async () => {
    expect(await nest.client.request(peer.name('same'), 'hello')).toBe('hello');
    expect(await nest.client.request(peer.name('describe'), 'hello')).toBe('string');
    // Otherwise the body is a JSON string, with quotes.
    expect(await auto.client.request(peer.name('same'), 'hello')).toBe('hello');
  });

  it('sends every value of a stream where wire is nest; otherwise the first is the reply', async () => {
    const all = (app: KafkaApp, kind: string) =>
      firstValueFrom(app.client.send<string>(peer.name('answer'), { kind }).pipe(toArray()));
    expect(await all(nest, 'values')).toEqual(['a', 'b', 'c']);
    expect(await all(nest, 'values, then the end')).toEqual(['a', 'b']);
    expect(await all(auto, 'values')).toEqual(['a']);
    expect(nest.counts()['late-replies']).toBeUndefined();
  });

  it('answers with errors', async () => {
    const failure = async (kind: string): Promise<RemoteError> =>
      nest.client.request(peer.name('answer'), { kind }).then(
        () => expect.unreachable('it answered'),
        (error: unknown) => error as RemoteError,
      );
    const text = await failure('rpc text');
    expect(text).toBeInstanceOf(RemoteError);
    expect(text).toMatchObject({ message: 'no teapot left', code: 'HANDLER_FAILED' });
    const object = await failure('rpc object');
    expect(object).toMatchObject({ code: 'OUT_OF_STOCK', message: 'no teapot left', details: { sku: 7 } });
    // Its server does not send the message of an unexpected error.
    expect(await failure('error')).toMatchObject({ message: 'Internal server error' });
    expect(await failure('fails at last')).toMatchObject({ code: 'LATE', message: 'too late' });
  });

  it('gets our events with keys and headers', async () => {
    await auto.client.publish(peer.name('event'), { n: 1 }, { key: 'k-1', headers: { tenant: 'acme' } });
    await nest.client.publish(peer.name('event'), 'hello');
    expect(await peer.arrivals.count(2)).toEqual([
      { data: { n: 1 }, key: 'k-1', tenant: 'acme' },
      { data: 'hello', key: undefined, tenant: undefined },
    ]);
  });
});
