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

function newHarness(delays: readonly number[] = [1_000, 60_000]) {
  const clock = new VirtualClock();
  const logger = new RecordingLogger();
  const written: { topic: string; record: RecordToSend }[] = [];
  const declared: string[] = [];
  /** The errors of the next publishes; undefined: it succeeds. */
  const failures: (Error | undefined)[] = [];
  const republisher = new Republisher({
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
    declareManagedTopics: async (source) => void declared.push(source),
  });
  return { republisher, clock, logger, written, declared, failures };
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

describe('a republished message', () => {
  it('goes to the topic of its delay, with the current time, its key and its reply address', async () => {
    const { republisher, clock, written } = newHarness();
    await republisher.republish('orders', delivery, redelivery);
    await republisher.republish('orders', delivery, { ...redelivery, delayMs: 120_000 });
    await republisher.republish('orders', delivery, { to: 'dead-letter', headers });
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

  it('whose topic was deleted is published after the topic is declared again', async () => {
    const { republisher, written, declared, failures } = newHarness();
    failures.push(new NoRouteError('gone'));
    await republisher.republish('orders', delivery, redelivery);
    expect([declared, written.length]).toEqual([['orders'], 1]);
    failures.push(new NoRouteError('gone'), new NoRouteError('gone'));
    await expect(republisher.republish('orders', delivery, redelivery)).rejects.toThrow('gone');
  });

  it('that is too large is published without headers of other programs', async () => {
    const { republisher, written, failures } = newHarness();
    failures.push(new MessageTooLargeError('large'));
    await republisher.republish('orders', delivery, redelivery);
    const { tenant: _tenant, ...needed } = headers;
    expect(written[0]!.record.headers).toEqual({ ...needed, 'stork-group': 'g' });
  });
});

describe('a record with a remaining delay', () => {
  const remaining = (dueAt: number, signal = new AbortController().signal) => ({
    source: 'orders',
    delayMs: 5,
    record,
    dueAt,
    signal,
  });

  it('is published unchanged to the topic of its remaining delay', async () => {
    const { republisher, clock, written } = newHarness();
    expect(await republisher.forwardRemainingDelay(remaining(clock.now() + 90_000))).toBe(true);
    expect(await republisher.forwardRemainingDelay(remaining(clock.now() + 500))).toBe(true);
    expect(written.map(({ topic }) => topic)).toEqual(['orders.retry.g.60000', 'orders.retry.g.1000']);
    expect(written[0]!.record).toMatchObject({ headers: record.headers, key: record.key });
  });

  it('is published to its own topic again where no delay is configured', async () => {
    const { republisher, clock, written } = newHarness([]);
    await republisher.forwardRemainingDelay(remaining(clock.now() + 90_000));
    expect(written.map(({ topic }) => topic)).toEqual(['orders.retry.g.5']);
  });

  it('is published again after a failure, and handled from memory once it is due', async () => {
    const { republisher, clock, written, failures, logger } = newHarness();
    failures.push(...Array.from({ length: 50 }, () => new Error('no broker')));
    const outcome = republisher.forwardRemainingDelay(remaining(clock.now() + 2_000));
    await clock.advance(2_000);
    expect([await outcome, written]).toEqual([false, []]);
    expect(logger.lines.filter((line) => line.includes('no broker'))).toHaveLength(1);
    expect(failures.length).toBeGreaterThan(40);
  });

  it('is no longer published after its partition was revoked', async () => {
    const { republisher, clock, failures } = newHarness();
    const revoked = new AbortController();
    failures.push(new Error('no broker'));
    const outcome = republisher.forwardRemainingDelay(remaining(clock.now() + 60_000, revoked.signal));
    await Promise.resolve();
    revoked.abort();
    expect(await outcome).toBe(false);
  });
});
