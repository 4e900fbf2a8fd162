import { describe, expect, it } from 'vitest';
import type { Redelivery, Delivery } from '../../../../lib/core/port/delivery.js';
import { MessageTooLargeError, NoRouteError } from '../../../../lib/core/runtime/errors.js';
import type { FetchedRecord, RecordToSend } from '../../../../lib/kafka/client/client.js';
import { Republisher } from '../../../../lib/kafka/retry/republisher.js';
import { RetryTopics } from '../../../../lib/kafka/topics/retry-topics.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { RecordingLogger } from '../../core/harness.js';

const record: FetchedRecord = {
  offset: '3',
  timestamp: '1',
  key: Buffer.from([0xff]),
  value: Buffer.from('body'),
  headers: { tenant: 'blue', 'stork-attempt': '2' },
};
const delivery = { message: { raw: record } } as unknown as Delivery;

function newBench(delays: readonly number[] = [1_000, 60_000]) {
  const clock = new VirtualClock();
  const logger = new RecordingLogger();
  const written: { topic: string; record: RecordToSend }[] = [];
  const made: string[] = [];
  /** What each publish fails with, one after another. */
  const failures: (Error | undefined)[] = [];
  const copies = new Republisher({
    producer: {
      publish: async (topic, sent) => {
        const failure = failures.shift();
        if (failure !== undefined) throw failure;
        written.push({ topic, record: sent });
      },
    },
    retries: new RetryTopics('g', delays),
    group: 'g',
    patternHeader: 'kind',
    reconnect: { delayMs: 100, maxDelayMs: 1_000 },
    name: 'main',
    clock,
    random: () => 0.5,
    logger,
    declareManagedTopics: async (source) => void made.push(source),
  });
  return { copies, clock, logger, written, made, failures };
}

const headers = {
  kind: 'paid',
  tenant: 'blue',
  'content-type': 'text/plain',
  'stork-attempt': '2',
  kafka_replyTopic: 'x.reply',
  kafka_correlationId: 'c',
};
const redelivery: Redelivery = { to: 'redelivery', delayMs: 1_000, headers, isDeferral: false };

describe('a copy', () => {
  it('goes where it waits, of the current time, with its key and its reply address', async () => {
    const { copies, clock, written } = newBench();
    await copies.write('orders', delivery, redelivery);
    await copies.write('orders', delivery, { ...redelivery, delayMs: 120_000 });
    await copies.write('orders', delivery, { to: 'dead-letter', headers });
    expect(written.map(({ topic }) => topic)).toEqual([
      'orders.retry.g.1000',
      'orders.retry.g.60000',
      'orders.dlq',
    ]);
    const { key, value, timestamp, headers: sent } = written[0]!.record;
    expect([key, value, timestamp]).toEqual([record.key, record.value, clock.now()]);
    expect(sent).toEqual({ ...headers, 'stork-group': 'g' });
    expect(written[2]!.record.headers).not.toHaveProperty('kafka_replyTopic');
  });

  it('whose topic is gone has it made, and is written then', async () => {
    const { copies, written, made, failures } = newBench();
    failures.push(new NoRouteError('gone'));
    await copies.write('orders', delivery, redelivery);
    expect([made, written.length]).toEqual([['orders'], 1]);
    failures.push(new NoRouteError('gone'), new NoRouteError('gone'));
    await expect(copies.write('orders', delivery, redelivery)).rejects.toThrow('gone');
  });

  it('that is too large leaves out what is not needed for reading it', async () => {
    const { copies, written, failures } = newBench();
    failures.push(new MessageTooLargeError('large'));
    await copies.write('orders', delivery, redelivery);
    const { tenant: _tenant, ...needed } = headers;
    expect(written[0]!.record.headers).toEqual({ ...needed, 'stork-group': 'g' });
  });
});

describe('what has to wait on', () => {
  const waiting = (dueAt: number, signal = new AbortController().signal) => ({
    source: 'orders',
    delayMs: 5,
    record,
    dueAt,
    signal,
  });

  it('goes as it is to the topic of the time that is left', async () => {
    const { copies, clock, written } = newBench();
    expect(await copies.waitOn(waiting(clock.now() + 90_000))).toBe(true);
    expect(await copies.waitOn(waiting(clock.now() + 500))).toBe(true);
    expect(written.map(({ topic }) => topic)).toEqual(['orders.retry.g.60000', 'orders.retry.g.1000']);
    expect(written[0]!.record).toMatchObject({ headers: record.headers, key: record.key });
  });

  it('stays among those of its delay where none is configured', async () => {
    const { copies, clock, written } = newBench([]);
    await copies.waitOn(waiting(clock.now() + 90_000));
    expect(written.map(({ topic }) => topic)).toEqual(['orders.retry.g.5']);
  });

  it('is tried again, and runs from memory once it is due', async () => {
    const { copies, clock, written, failures, logger } = newBench();
    failures.push(...Array.from({ length: 50 }, () => new Error('no broker')));
    const outcome = copies.waitOn(waiting(clock.now() + 2_000));
    await clock.advance(2_000);
    expect([await outcome, written]).toEqual([false, []]);
    expect(logger.lines.filter((line) => line.includes('no broker'))).toHaveLength(1);
    expect(failures.length).toBeGreaterThan(40);
  });

  it('ends with its partition', async () => {
    const { copies, clock, failures } = newBench();
    const lost = new AbortController();
    failures.push(new Error('no broker'));
    const outcome = copies.waitOn(waiting(clock.now() + 60_000, lost.signal));
    await Promise.resolve();
    lost.abort();
    expect(await outcome).toBe(false);
  });
});
