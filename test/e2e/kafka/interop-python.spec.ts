import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Controller, type Type } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { KafkaContext } from 'nestjs-stork/kafka';
import { readText } from '../../../lib/core/message/headers.js';
import { eventually, Seen } from '../../contract/app.js';
import { brokers, startKafkaApp, textOf, uniqueTopic, useForeign } from './kafka-app.js';
import { pythonWith } from './python/environment.js';

// EVKafka's client imports modules that later releases of kafka-python do not have.
const evkafka = brokers === undefined ? undefined : await pythonWith('evkafka==0.7.0', 'kafka-python==2.0.2');
const faststream = brokers === undefined ? undefined : await pythonWith('faststream[kafka]==0.7.8');

/**
 * Starts a program of the folder `python`; it ends with the test. Resolves with the JSON that it prints, line
 * by line.
 */
function startPeer(
  python: string,
  program: string,
  ...args: readonly string[]
): Seen<Record<string, unknown>> {
  const file = fileURLToPath(new URL(`python/${program}`, import.meta.url));
  const peer = spawn(python, [file, brokers!.join(','), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = new Seen<Record<string, unknown>>();
  createInterface({ input: peer.stdout }).on('line', (line) => {
    if (line.startsWith('{')) said.add(JSON.parse(line) as Record<string, unknown>);
  });
  let complaints = '';
  peer.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail') console.error(`${program}: ${complaints.slice(-4_000)}`);
    const ended = once(peer, 'exit');
    if (peer.exitCode !== null || !peer.kill('SIGTERM')) return;
    const hard = setTimeout(() => peer.kill('SIGKILL'), 3_000);
    await ended;
    clearTimeout(hard);
  });
  return said;
}

interface Arrival {
  readonly pattern: string;
  readonly data: unknown;
  readonly context: KafkaContext;
}

describe.skipIf(evkafka === undefined)('EVKafka of Python', () => {
  const foreign = useForeign();

  function receiver(): { readonly controller: Type; readonly arrivals: Seen<Arrival> } {
    const arrivals = new Seen<Arrival>();
    @Controller()
    class Receiver {
      @EventPattern<string>('OrderSeen')
      order(@Payload() data: unknown, @Ctx() context: KafkaContext): void {
        arrivals.add({ pattern: 'OrderSeen', data, context });
      }
      @EventPattern<string>('NoteSeen')
      note(@Payload() data: unknown, @Ctx() context: KafkaContext): void {
        arrivals.add({ pattern: 'NoteSeen', data, context });
      }
      @EventPattern<string>('Broken')
      broken(@Payload() data: unknown, @Ctx() context: KafkaContext): never {
        arrivals.add({ pattern: 'Broken', data, context });
        throw new Error('no way');
      }
    }
    return { controller: Receiver, arrivals };
  }

  it('reads our events and sends its own, by the header Event-Type', async () => {
    const [orders, answers] = [await foreign().topic(), await foreign().topic()];
    const options = { topic: answers, publishTo: { topic: orders }, patternHeader: 'Event-Type' } as const;
    const auto = receiver();
    const bare = receiver();
    const { client } = await startKafkaApp({ controllers: [auto.controller], options });
    await startKafkaApp({ controllers: [bare.controller], options: { ...options, wire: 'nest' } });
    startPeer(evkafka!, 'evkafka_peer.py', orders, answers);

    const order = { id: 7, text: 'Grüße' };
    await client.publish('OrderPlaced', order, { key: 'k-7', headers: { tenant: 'acme' } });
    // EVKafka does not decode JSON: a JSON string would arrive with its quotes.
    await client.publish('Note', 'hello', { contentType: 'text/plain' });

    const ofKind = (arrivals: Seen<Arrival>, kind: string) =>
      eventually(async () => arrivals.all.find(({ pattern }) => pattern === kind), kind);
    const seen = await ofKind(auto.arrivals, 'OrderSeen');
    expect(seen.data).toEqual({ echo: order, tenant: 'acme' });
    expect(seen.context.key).toBe('k-7');
    // Its text has no content type: a transport that is configured for text reads it, others dead-letter it.
    expect((await ofKind(bare.arrivals, 'NoteSeen')).data).toBe('HELLO');
    const deadLetters = await foreign().records(`${answers}.dlq`, 3);
    const text = deadLetters.find((deadLetter) => textOf(deadLetter, 'stork-death-reason') === 'undecodable');
    expect(text!.value!.toString()).toBe('HELLO');

    // A header without a value is null for a handler; kafkajs cannot write one, so in a dead letter it is
    // empty.
    const broken = await ofKind(auto.arrivals, 'Broken');
    expect(broken.context.headers['nothing']).toBeNull();
    const deadLetter = deadLetters.find((one) => textOf(one, 'Event-Type') === 'Broken');
    expect(deadLetter!.headers['nothing']).toEqual(Buffer.alloc(0));
  });
});

describe.skipIf(faststream === undefined)('FastStream of Python', () => {
  const foreign = useForeign();

  it('exchanges events and, by the headers of the wire, requests with us', async () => {
    const prefix = uniqueTopic();
    const arrivals = new Seen<Arrival>();

    @Controller()
    class Service {
      @EventPattern<string>(`${prefix}.event`)
      event(@Payload() data: unknown, @Ctx() context: KafkaContext): void {
        arrivals.add({ pattern: 'event', data, context });
      }
      @MessagePattern<string>(`${prefix}.double`)
      double(@Payload() { n }: { n: number }): number {
        return n * 2;
      }
      @MessagePattern<string>(`${prefix}.fails`)
      fails(): never {
        throw new RpcException({ code: 'NO_WAY', message: 'no way' });
      }
    }
    const topics = ['event', 'double', 'fails', 'python', 'python.reply', 'native.reply'];
    await Promise.all(topics.map((name) => foreign().topic(`${prefix}.${name}`)));
    const replyTopic = foreign().noted(`${prefix}.reply`);
    const { client } = await startKafkaApp({ controllers: [Service], options: { replyTopic } });
    const said = startPeer(faststream!, 'faststream_peer.py', prefix);

    // FastStream to stork: JSON, text, bytes without a content type, a tombstone.
    await arrivals.count(5);
    const all = arrivals.all.toSorted((a, b) => Number(a.context.offset) - Number(b.context.offset));
    expect(all.map(({ data }) => data)).toEqual([{ n: 1 }, 'Grüße', { raw: true }, null, { n: 2 }]);
    expect(all[0]!.context.key).toBe('k-1');
    expect(readText(all[0]!.context.headers, 'tenant')).toBe('acme');
    // Stork treats FastStream's reply_to as an ordinary header and sends no reply to it.
    expect(readText(all[4]!.context.headers, 'reply_to')).toBe(`${prefix}.python.reply`);

    // FastStream's requests.
    const answer = (id: string) =>
      eventually(async () => said.all.find((line) => line['id'] === id), `the answer to ${id}`);
    expect((await answer('r-1'))['reply']).toBe(42);
    expect(JSON.parse((await answer('r-2'))['error'] as string)).toMatchObject({ code: 'NO_WAY' });

    // Stork to FastStream.
    await client.publish(`${prefix}.python`, { n: 5 }, { key: 'k-5', headers: { tenant: 'acme' } });
    const event = await eventually(async () => said.all.find((line) => 'event' in line), 'our event');
    expect(event).toEqual({ event: { n: 5 }, tenant: 'acme', key: 'k-5' });
    expect(await client.request(`${prefix}.python`, { n: 4 })).toEqual({ doubled: 8 });
    // FastStream's own reply goes to reply_to, as a plain message with its own correlation_id.
    const headers = { reply_to: `${prefix}.native.reply`, correlation_id: 'c-9' };
    await client.publish(`${prefix}.python`, { n: 6 }, { headers });
    const [native] = await foreign().records(`${prefix}.native.reply`, 1);
    expect(native!.value!.toString()).toBe('{"native":true}');
    expect(textOf(native, 'correlation_id')).toBe('c-9');
  });
});
