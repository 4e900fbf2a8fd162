import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import type { Message } from 'kafkajs';
import { beforeEach, describe, expect, it } from 'vitest';
import { KafkaContext, type KafkaOptions } from 'nestjs-stork/kafka';
import { eventually, Seen } from '../../contract/app.js';
import type { StoredRecord } from '../../support/kafka-topic-reader.js';
import { brokers, startKafkaApp, textOf, useForeign, type KafkaApp } from './kafka-app.js';

const patternHeader = 'kind';
let seen = new Seen<{ readonly data: unknown; readonly context: KafkaContext }>();

@Controller()
class Probe {
  @EventPattern<string>('fine')
  fine(@Payload() data: unknown, @Ctx() context: KafkaContext): void {
    seen.add({ data, context });
  }
  @EventPattern<string>('fails')
  fails(): never {
    throw new Error('no way');
  }
  @MessagePattern<string>('double')
  double(@Payload() n: number): number {
    return n * 2;
  }
}

interface Setup {
  readonly app: KafkaApp;
  readonly topic: string;
  readonly send: (...messages: readonly Message[]) => Promise<void>;
  readonly deadLetters: (count: number) => Promise<readonly StoredRecord[]>;
}

const notUtf8 = Buffer.from([0xff, 0xfe, 0x00, 0x80]);
const fine = { kind: 'fine' };
const fails = { kind: 'fails' };
const reasonOf = (deadLetter: StoredRecord | undefined) => textOf(deadLetter, 'stork-death-reason');

describe.skipIf(brokers === undefined)('Kafka: bad input', () => {
  const foreign = useForeign();

  beforeEach(() => {
    seen = new Seen();
  });

  async function start(options: Partial<KafkaOptions> = {}, name?: string): Promise<Setup> {
    const topic = await foreign().topic(name);
    const app = await startKafkaApp({ controllers: [Probe], options: { topic, patternHeader, ...options } });
    return {
      app,
      topic,
      send: (...messages) => foreign().send(topic, ...messages),
      deadLetters: (count) => foreign().records(`${topic}.dlq`, count),
    };
  }

  /** The partition is not blocked: the next message of the same partition is handled. */
  async function expectAlive({ app, send }: Setup): Promise<void> {
    await send({ value: '"behind"', headers: fine });
    await eventually(
      async () => (seen.all.some(({ data }) => data === 'behind') ? true : undefined),
      'the next message',
    );
    await eventually(
      async () => (app.service.state()['main']!.inFlight === 0 ? true : undefined),
      'nothing in flight',
    );
    expect(app.service.state()['main']!.connection.value).toBe('ready');
  }

  it('in a body becomes a dead letter with its bytes, and the partition continues', async () => {
    const setup = await start();
    const bodies: readonly (readonly [string, Buffer | string])[] = [
      ['undecodable', notUtf8],
      ['undecodable', '{"broken'],
      ['undecodable', '{"__proto__":{"admin":true}}'],
      ['undecodable', `${'['.repeat(5_000)}${']'.repeat(5_000)}`],
    ];
    await setup.send(...bodies.map(([, value]) => ({ value: Buffer.from(value), headers: fine })));
    await setup.send({ value: '1', headers: { ...fine, 'content-type': 'image/png' } });
    await expectAlive(setup);
    const deadLetters = await setup.deadLetters(5);
    expect(deadLetters.map(reasonOf)).toEqual([...bodies.map(([reason]) => reason), 'undecodable']);
    expect(deadLetters.slice(0, 4).map(({ value }) => value)).toEqual(
      bodies.map(([, value]) => Buffer.from(value)),
    );
  });

  it('of more bytes than maxBodyBytes is dead-lettered without decoding', async () => {
    const setup = await start({ maxBodyBytes: 100 });
    const value = Buffer.from(JSON.stringify('x'.repeat(99)));
    await setup.send({ value, headers: fine });
    await expectAlive(setup);
    const [deadLetter] = await setup.deadLetters(1);
    expect(reasonOf(deadLetter)).toBe('invalid');
    expect(textOf(deadLetter, 'stork-error-message')).toContain('maxBodyBytes allows 100');
    expect(deadLetter!.value).toEqual(value);
  });

  it('keeps key, body and its own headers in a dead letter, byte for byte', async () => {
    const setup = await start();
    const key = Buffer.from([0x00, 0xff, 0xc3, 0x28, 0x80]);
    const headers = {
      ...fails,
      binary: notUtf8,
      empty: '',
      twice: ['one', notUtf8],
      'ünïcode 😀': 'ja',
      '': 'nameless',
      constructor: 'of whom',
      toString: ['a', 'b'],
    };
    Object.defineProperty(headers, '__proto__', { value: 'polluted', enumerable: true });
    const value = Buffer.from('{"n":1}');
    await setup.send({ key, value, headers });
    await expectAlive(setup);
    const [deadLetter] = await setup.deadLetters(1);
    expect(deadLetter!.key).toEqual(key);
    expect(deadLetter!.value).toEqual(value);
    const own = Object.keys(deadLetter!.headers).filter((name) => !name.startsWith('stork-'));
    expect(own.toSorted()).toEqual(Object.keys(headers).toSorted());
    const bytes = (one: unknown) => Buffer.from(one as Buffer | string);
    // kafkajs prepends the inherited property of Object.prototype to the values of such a header.
    const sentOf = (name: string) => {
      const value = Object.getOwnPropertyDescriptor(deadLetter!.headers, name)!.value as unknown;
      const all = Array.isArray(value) ? (value as unknown[]) : [value];
      return name in Object.prototype ? all.slice(1) : all;
    };
    for (const name of own) {
      const value = Object.getOwnPropertyDescriptor(headers, name)!.value as unknown;
      expect([name, sentOf(name)]).toEqual([name, [value].flat().map(bytes)]);
    }
    expect(textOf(deadLetter, 'stork-error-message')).toBe('no way');
    expect(({} as Record<string, unknown>)['admin']).toBeUndefined();
  });

  it('in headers reaches the handler as bytes', async () => {
    const setup = await start();
    const headers = { ...fine, binary: notUtf8, twice: ['one', 'two'], constructor: 'of whom' };
    Object.defineProperty(headers, '__proto__', { value: 'polluted', enumerable: true });
    await setup.send({ value: '1', headers });
    const [{ context } = expect.unreachable()] = await seen.count(1);
    expect(context.headers['binary']).toEqual(notUtf8);
    expect(context.headers['twice']).toEqual([Buffer.from('one'), Buffer.from('two')]);
    expect(context.headers['constructor']).toEqual(Buffer.from('of whom'));
    expect(Object.getOwnPropertyDescriptor(context.headers, '__proto__')?.value).toEqual(
      Buffer.from('polluted'),
    );
    await expectAlive(setup);
  });

  it('without a value is null for the handler', async () => {
    const setup = await start();
    await setup.send({ key: 'k', value: null, headers: fine });
    const [{ data, context } = expect.unreachable()] = await seen.count(1);
    expect(data).toBeNull();
    expect(context.key).toBe('k');
    await setup.send({ key: 'k', value: null, headers: fails });
    const [deadLetter] = await setup.deadLetters(1);
    expect(deadLetter).toMatchObject({ value: null, key: Buffer.from('k') });
    await expectAlive(setup);
  });

  it('in stork headers counts as absent', async () => {
    const setup = await start();
    const long = 'x'.repeat(100_000);
    const hostile: readonly Record<string, Buffer | string | string[]>[] = [
      { 'stork-attempt': '-1', 'stork-first-failed-at': 'yesterday' },
      { 'stork-attempt': '99999999999999999999', 'stork-message-id': long },
      { 'stork-attempt': notUtf8, 'stork-message-id': notUtf8, 'content-type': '' },
      { 'stork-attempt': ['7', '8'], 'stork-deadline': '1999-01-01T00:00:00.000Z' },
      { 'stork-origin-offset': '-5', 'stork-origin-partition': 'x', 'stork-group': long },
      { 'stork-reply': 'error', kafka_correlationId: long, kafka_replyPartition: '0' },
      { traceparent: long, 'stork-key': long, 'stork-due-at': 'NaN' },
      Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x-${i}`, `value ${i}`])),
    ];
    await setup.send(...hostile.map((headers) => ({ value: '1', headers: { ...headers, ...fine } })));
    const all = await seen.count(hostile.length);
    expect(all.map(({ context }) => context.attempt)).toEqual([1, 1, 1, 7, 1, 1, 1, 1]);
    expect(Object.keys(all[7]!.context.headers).length).toBe(201);
    await expectAlive(setup);
  });

  it('in stork headers counts as absent in a dead letter, too', async () => {
    const setup = await start();
    await setup.send(
      { value: '1', headers: { ...fine, 'stork-handler': 'no.such' } },
      { value: '2', headers: { ...fails, 'stork-attempt': '-1', 'stork-origin': 'no.such.topic' } },
      { value: '3', headers: { ...fails, 'stork-first-failed-at': 'never' } },
    );
    await expectAlive(setup);
    const deadLetters = await setup.deadLetters(2);
    expect(deadLetters.map(({ value }) => value!.toString())).toEqual(['2', '3']);
    expect(textOf(deadLetters[0], 'stork-attempt')).toBe('1');
    expect(textOf(deadLetters[1], 'stork-first-failed-at')).toMatch(/^\d{4}-/);
  });

  it('with an extreme timestamp is handled', async () => {
    const anyTime = { name: 'message.timestamp.after.max.ms', value: '9223372036854775807' };
    const topic = await foreign().topic(`${await foreign().topic()}.times`, 1, [anyTime]);
    const app = await startKafkaApp({ controllers: [Probe], options: { topic, patternHeader } });
    const times = ['0', '-1', '8640000000000001', '4102444800000'];
    for (const timestamp of times) await foreign().send(topic, { value: '1', timestamp, headers: fine });
    const all = await seen.count(times.length);
    expect(all.map(({ context }) => context.timestamp)).toEqual([
      0,
      undefined,
      8_640_000_000_000_001,
      4_102_444_800_000,
    ]);
    for (const timestamp of times) await foreign().send(topic, { value: '2', timestamp, headers: fails });
    const deadLetters = await foreign().records(`${topic}.dlq`, times.length);
    expect(deadLetters.map((deadLetter) => textOf(deadLetter, 'stork-origin-timestamp'))).toEqual([
      '1970-01-01T00:00:00.000Z',
      undefined,
      undefined,
      '2100-01-01T00:00:00.000Z',
    ]);
    // Dead letters carry the current time: with an old timestamp retention would delete them.
    for (const { timestamp } of deadLetters) expect(Math.abs(Date.now() - timestamp)).toBeLessThan(60_000);
    await eventually(async () => (app.service.state()['main']!.inFlight === 0 ? true : undefined), 'the end');
  });

  it('that names a forged reply topic becomes a dead letter', async () => {
    const setup = await start({ replyTopic: foreign().noted(`${await foreign().topic()}.reply`) });
    const forged = [
      setup.topic,
      `${setup.topic}.dlq`,
      '__consumer_offsets',
      'no.such.topic.reply',
      '',
      '../x.reply',
    ];
    const ask = (kafka_replyTopic: string | Buffer | string[]): Message => ({
      value: '1',
      headers: { kind: 'double', kafka_replyTopic, kafka_correlationId: 'c', kafka_replyPartition: '0' },
    });
    await setup.send(...forged.map(ask), ask(notUtf8), ask('x'.repeat(300)));
    await expectAlive(setup);
    const deadLetters = await setup.deadLetters(forged.length + 2);
    expect(deadLetters.map(reasonOf)).toEqual(deadLetters.map(() => 'invalid'));
    // No reply was written.
    expect(textOf(deadLetters[0], 'kafka_replyTopic')).toBeUndefined();
    expect((await foreign().reader.records(setup.topic)).length).toBe(forged.length + 3);
  });

  it('that names a reply partition which does not exist is counted', async () => {
    const setup = await start();
    const replies = await foreign().topic(`${setup.topic}.reply`);
    const ask = (kafka_replyPartition: string): Message => ({
      value: '4',
      headers: { kind: 'double', kafka_replyTopic: replies, kafka_correlationId: 'c', kafka_replyPartition },
    });
    await setup.send(ask('7'), ask('999999999'), ask('0'));
    const [reply] = await foreign().records(replies, 1);
    expect(reply!.value!.toString()).toBe('8');
    expect(setup.app.counts()['reply-undeliverable']).toBe(2);
    // A reply partition that is no number is ignored: the reply goes to any partition.
    await setup.send(ask('-1'), ask('NaN'), ask(''));
    await foreign().records(replies, 4);
    await expectAlive(setup);
    expect(await foreign().reader.records(`${setup.topic}.dlq`)).toEqual([]);
  });

  it('with headers that exceed the limit of the dead letter topic is dead-lettered without them', async () => {
    const topic = await foreign().topic();
    await foreign().topic(`${topic}.dlq`, 1, [{ name: 'max.message.bytes', value: '40000' }]);
    const setup: Setup = await start({}, topic);
    await setup.send({ value: '1', headers: { ...fails, big: 'x'.repeat(50_000) } });
    const [deadLetter] = await setup.deadLetters(1);
    expect(deadLetter!.value!.toString()).toBe('1');
    expect(deadLetter!.headers['big']).toBeUndefined();
    expect(textOf(deadLetter, 'stork-error-message')).toBe('no way');
    await expectAlive(setup);
  });

  it('that exceeds the limit of the dead letter topic stays in its partition and blocks no other', async () => {
    const topic = await foreign().topic(undefined, 2);
    const small = { name: 'max.message.bytes', value: '20000' };
    await foreign().topic(`${topic}.dlq`, 1, [small]);
    const app = await startKafkaApp({ controllers: [Probe], options: { topic, patternHeader } });
    const value = JSON.stringify('x'.repeat(30_000));
    await foreign().send(topic, { value, headers: fails, partition: 0 });
    await eventually(async () => app.counts()['failed'], 'the failure');
    // Once the limit is raised it is dead-lettered.
    const resource = {
      type: 2,
      name: `${topic}.dlq`,
      configEntries: [{ name: small.name, value: '1000000' }],
    };
    await foreign().admin.alterConfigs({ validateOnly: false, resources: [resource] });
    const [deadLetter] = await foreign().records(`${topic}.dlq`, 1);
    expect(deadLetter!.value!.toString()).toBe(value);
    await foreign().send(topic, { value: '"behind"', headers: fine, partition: 0 });
    await seen.count(1);
  });
});
