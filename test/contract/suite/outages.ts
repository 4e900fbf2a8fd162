import { Controller } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { expect, it, onTestFinished } from 'vitest';
import { StorkRecordBuilder, type StorkClient, type StorkError } from 'nestjs-stork';
import { eventually, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

const timeoutMs = 500;
/** On a busy machine timers are late. */
const promptMs = 15_000;
/**
 * The one end that promises of what begins in an outage that it is never stored. On Kafka a produce request
 * may be in flight although the client cannot connect; who gives up then does not learn what becomes of it.
 */
const notSent = 'CONNECTION_LOST';
const ends = [notSent, 'REQUEST_TIMEOUT', 'TimeoutError', 'PUBLISH_UNCONFIRMED'];

/** What a client sends while the broker is unreachable, each with a limit. */
const sends: Readonly<Record<string, (client: StorkClient, key: string) => Promise<unknown>>> = {
  publish: (client, key) => client.publish('event', 'publish', { key, timeoutMs }),
  'publish with a signal': (client, key) =>
    client.publish('event', 'signal', { key, signal: AbortSignal.timeout(timeoutMs) }),
  emit: (client, key) => firstValueFrom(client.emit('event', record('emit', key))),
  request: (client, key) => client.request('ask', 'request', { key, timeoutMs }),
  send: (client, key) => firstValueFrom(client.send('ask', record('send', key))),
};

function record(data: string, key: string) {
  return new StorkRecordBuilder(data).setOptions({ key, timeoutMs }).build();
}

/** a broker that cannot be reached for a while */
export function outageContract(harness: DriverHarness): void {
  const { outage } = harness;

  async function start(publishTimeoutMs: number) {
    const seen = new Seen<string>();
    @Controller()
    class Echo {
      @EventPattern<string>('event')
      event(@Payload() data: string): void {
        seen.add(data);
      }
      @MessagePattern('ask')
      ask(@Payload() data: string): string {
        seen.add(data);
        return data;
      }
    }
    const { client, service } = await startApp(harness, {
      controllers: [Echo],
      transport: { ...harness.impatient, publishTimeoutMs },
    });
    // With the first request the reply inbox is open, with the first publish its topic known.
    await client.request('ask', 'first', { key: 'k' });
    await client.publish('event', 'first', { key: 'k' });
    await seen.count(2);
    const away = async (): Promise<void> => {
      outage!.begin();
      onTestFinished(() => outage!.end());
      // On Kafka the connection of the producer is noticed to be lost when it is used next. By the key, what
      // the test sends waits behind this message, and is not written to the connection that is gone.
      await expect(client.publish('event', 'unnoticed', { key: 'k', timeoutMs: 1 })).rejects.toThrow();
      const isAway = (): boolean => service.state()['main']!.connection.value === 'backoff';
      await eventually(async () => (isAway() ? true : undefined), 'the loss to be noticed');
    };
    /** What has arrived besides, once the broker is back and a later message has arrived. */
    const arrived = async (): Promise<readonly string[]> => {
      outage!.end();
      const publishLast = (): Promise<true | undefined> =>
        client.publish('event', 'last', { key: 'k' }).then(
          () => true,
          () => undefined,
        );
      await eventually(publishLast, 'a publish');
      await eventually(async () => (seen.all.includes('last') ? true : undefined), 'the last message');
      return seen.all.filter((data) => !['first', 'last', 'unnoticed'].includes(data));
    };
    return { client, away, arrived };
  }

  it.each(Object.entries(sends))(
    '%s ends in time, and what ends as not sent is not sent later',
    async (_, send) => {
      const { client, away, arrived } = await start(60_000);
      await away();
      const beganAt = performance.now();
      const code = await codeOf(send(client, 'k'));
      const tookMs = performance.now() - beganAt;
      expect(ends).toContain(code);
      expect(tookMs).toBeLessThan(timeoutMs + promptMs);
      const seen = await arrived();
      if (code === notSent) expect(seen).toEqual([]);
    },
  );

  it('a publish and an emit() without a limit of their own end after publishTimeoutMs', async () => {
    const { client, away, arrived } = await start(timeoutMs);
    await away();
    const sent = {
      publish: client.publish('event', 'publish'),
      emit: firstValueFrom(client.emit('event', 'emit')),
    };
    const beganAt = performance.now();
    const codes = { publish: await codeOf(sent.publish), emit: await codeOf(sent.emit) };
    expect(performance.now() - beganAt).toBeLessThan(timeoutMs + promptMs);
    expect(ends).toEqual(expect.arrayContaining(Object.values(codes)));
    const late = (await arrived()).filter((data) => codes[data as keyof typeof codes] === notSent);
    expect(late).toEqual([]);
  });

  it('what waits within its limit arrives, in order, once the broker is back', async () => {
    const { client, away, arrived } = await start(60_000);
    await away();
    const ended = ['b', 'd'];
    const codes = new Map<string, unknown>();
    const published = ['a', 'b', 'c', 'd'].map(async (data) => {
      const limit = ended.includes(data) ? { timeoutMs } : {};
      codes.set(data, await codeOf(client.publish('event', data, { key: 'k', ...limit })));
    });
    await Promise.all([published[1], published[3]]);
    for (const data of ended) expect(ends).toContain(codes.get(data));
    const seen = await arrived();
    await Promise.all(published);
    expect([codes.get('a'), codes.get('c')]).toEqual([undefined, undefined]);
    const isExpected = (data: string): boolean => !ended.includes(data) || codes.get(data) === notSent;
    // A message may arrive again.
    expect([...new Set(seen)].filter(isExpected)).toEqual(['a', 'c']);
  });
}

/** Undefined if it resolves. */
async function codeOf(sent: Promise<unknown>): Promise<unknown> {
  try {
    await sent;
    return undefined;
  } catch (error) {
    const { code, name } = error as StorkError;
    return name === 'TimeoutError' ? name : code;
  }
}
