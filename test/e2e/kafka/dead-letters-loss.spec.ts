import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished } from 'vitest';
import { isStorkError } from 'nestjs-stork';
import type { StoredDeadLetter, DeadLetterAction } from '../../../lib/core/port/dead-letter-store.js';
import { startProxiedKafka, type ProxiedKafka } from '../../support/proxied-kafka.js';
import { seeded } from '../../support/seeded.js';
import { committedNumbers } from './committed-numbers.js';
import { openStore, replayAll, warnings } from './dead-letter-stores.js';
import { brokers, Raw, range, uniqueName } from './support.js';

const count = 400;
const seed = Number(process.env['STORK_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
const random = seeded(seed);

describe.skipIf(brokers === undefined)('Kafka: dead letters over a failing network', () => {
  let own: ProxiedKafka | undefined;
  let raw: Raw;

  beforeAll(async () => {
    own = await startProxiedKafka({ version: inject('kafkaVersion') });
    raw = new Raw(own.server.brokers);
    await raw.open();
  }, 180_000);
  afterAll(async () => {
    await raw?.close();
    await own?.close();
  });

  async function open() {
    const [source, group] = [await raw.topic(2), uniqueName()];
    const topic = `${source}.dlq`;
    await raw.topic(2, topic);
    const headers = {
      'stork-origin': source,
      'stork-group': group,
      'stork-failed-at': new Date().toISOString(),
    };
    const messages = range(0, count).map((n) => ({ key: `key ${n % 7}`, value: String(n), headers }));
    await raw.producer.send({ topic, messages });
    const { store, close } = await openStore({ brokers: own!.proxied, groupId: group }, { source });
    onTestFinished(close);
    return { source, group, store };
  }

  async function cutUntil(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(30 + random() * 120);
      own!.proxy.cut();
    }
  }

  /** Replays all dead letters of a topic, at first over a network that fails. Returns the errors. */
  async function replayOverFailures(): Promise<readonly unknown[]> {
    const { source, group, store } = await open();
    const errors: unknown[] = [];
    let isDone = false;
    for (let attempt = 0; attempt < 10 && !isDone; attempt++) {
      const stop = new AbortController();
      const cutting = attempt < 5 ? cutUntil(stop.signal) : undefined;
      try {
        await replayAll(store, { window: 20 });
        isDone = true;
      } catch (error) {
        errors.push(error);
      }
      stop.abort();
      await cutting;
    }
    expect(await committedNumbers(raw, `${source}.retry.${group}.0`)).toEqual(range(0, count));
    return errors;
  }

  it(`rejects when the connection is lost, and replays the rest later: each dead letter exactly once, seed ${seed}`, async () => {
    const errors: unknown[] = [];
    // A replay may be lucky: each loss of the connection falls between two transactions.
    for (let topics = 0; topics < 15 && errors.length === 0; topics++)
      errors.push(...(await replayOverFailures()));
    expect(errors.length).toBeGreaterThan(0);
    const lost = { code: expect.stringMatching(/^(CONNECTION_LOST|PUBLISH_UNCONFIRMED)$/) };
    // The same error is reported when the broker has aborted a transaction that was open for too long.
    const overtaken = { message: expect.stringContaining('another process has started to replay') };
    for (const error of errors) {
      const isOvertaken = isStorkError(error) && error.code === 'PUBLISH_REJECTED';
      expect(error).toMatchObject(isOvertaken ? overtaken : lost);
    }
    expect(warnings).toEqual([]);
  }, 180_000);

  it('times out if the broker does not respond, and stops at once when the signal aborts', async () => {
    const { store } = await open();
    const breakOff = ({ message }: StoredDeadLetter): DeadLetterAction => {
      own!.proxy.breakOff();
      return { replay: message.headers };
    };
    onTestFinished(() => own!.proxy.restore());
    const forEver = new AbortController().signal;
    const began = performance.now();
    await expect(
      store.scan({ decide: breakOff, settled: () => {} }, { window: 1, signal: forEver }),
    ).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
    expect(performance.now() - began).toBeLessThan(50_000);
    const stop = new AbortController();
    const passing = store.scan({ decide: breakOff, settled: () => {} }, { window: 1, signal: stop.signal });
    const stopped = performance.now();
    stop.abort(new Error('enough'));
    await expect(passing).rejects.toThrow('enough');
    // After an abort it waits a second for requests in flight; without the signal it waits fifteen.
    expect(performance.now() - stopped).toBeLessThan(8_000);
    own!.proxy.restore();
    expect(await replayAll(store)).toMatchObject({ done: count });
  }, 120_000);
});
