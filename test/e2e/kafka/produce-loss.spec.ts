import { afterAll, describe, expect, inject, it } from 'vitest';
import { throwAway, type ThrowAway } from '../../support/brokers/index.mjs';
import { freePort } from '../../support/brokers/parts.mjs';
import { uniqueTopic } from './kafka-app.js';
import { startSwallowingProxy, type SwallowingProxy } from './produce-swallowing-proxy.js';
import {
  bodyOf,
  brokers,
  codeOf,
  PublishLog,
  startSender,
  useBeside,
  type Sender,
} from './support-produce.js';

describe.skipIf(brokers === undefined)('Kafka: publishing during failures', () => {
  let server: ThrowAway<'kafka'> | undefined;
  let proxy: SwallowingProxy | undefined;
  afterAll(async () => {
    await server?.remove();
    await proxy?.close();
  });
  const beside = useBeside(async () => {
    const port = await freePort();
    proxy = await startSwallowingProxy(port);
    const proxied = { port, address: `127.0.0.1:${proxy.port}` };
    server = await throwAway('kafka', { version: inject('kafkaVersion'), proxied });
    return server.brokers;
  });
  const sender = (options: Parameters<typeof startSender>[0] = {}): Promise<Sender> =>
    startSender({ brokers: [`127.0.0.1:${proxy!.port}`], ...options });
  const direct: typeof sender = (options) => sender({ brokers: server!.brokers, ...options });

  it('rejects with PUBLISH_UNCONFIRMED if the response is lost, and does not write the record twice', async () => {
    const topic = await beside().topic();
    const { client, states } = await sender();
    await client.publish(topic, 'first');
    const publishLog = new PublishLog(client, topic);
    proxy!.swallow(1);
    await publishLog.burst(5);
    expect(publishLog.outcomes).toEqual({ PUBLISH_UNCONFIRMED: 5 });
    await publishLog.burst(5);
    expect(publishLog.outcomes).toEqual({ PUBLISH_UNCONFIRMED: 5, confirmed: 5 });
    const [, ...records] = await beside().records(topic, 11);
    expect(publishLog.lies(records)).toEqual([]);
    expect(states.at(-1)).toBe('ready');
  });

  it('rejects with PUBLISH_UNCONFIRMED also if the broker cannot be reached any more', async () => {
    const topic = await beside().topic();
    const { client, connection } = await sender();
    await client.publish(topic, 'first');
    const publishLog = new PublishLog(client, topic);
    proxy!.swallow(1);
    proxy!.breakOffToo();
    const known = publishLog.burst(5);
    await expect.poll(() => proxy!.swallowed).toBeGreaterThan(1);
    await expect.poll(() => publishLog.outcomes['undefined'] ?? 0).toBe(0);
    const later = publishLog.burst(5);
    await expect.poll(() => connection().value).toBe('backoff');
    proxy!.restore();
    await Promise.all([known, later]);
    expect(publishLog.outcomes).toEqual({ PUBLISH_UNCONFIRMED: 5, confirmed: 5 });
    const [, ...records] = await beside().records(topic, 11);
    expect(publishLog.lies(records)).toEqual([]);
    await expect.poll(() => connection().value).toBe('ready');
  });

  it('idempotent: confirms after one lost response, written once', async () => {
    const topic = await beside().topic();
    const { client } = await sender({ idempotent: true });
    await client.publish(topic, 'first');
    const publishLog = new PublishLog(client, topic);
    proxy!.swallow(1);
    await publishLog.burst(5);
    await publishLog.burst(5);
    expect(publishLog.outcomes).toEqual({ confirmed: 10 });
    const [, ...records] = await beside().records(topic, 11);
    expect(publishLog.lies(records)).toEqual([]);
  });

  it('idempotent: if every response is lost the producer is replaced, and no later confirmed message is missing', async () => {
    const topic = await beside().topic(uniqueTopic(), 3);
    const { client } = await sender({ idempotent: true });
    const publishLog = new PublishLog(client, topic);
    await publishLog.burst(70);
    proxy!.swallow();
    await publishLog.burst(70);
    proxy!.restore();
    expect(publishLog.outcomes).toEqual({ confirmed: 70, PUBLISH_UNCONFIRMED: 70 });
    // Batches of the same sizes: with the old sequence numbers the broker would take them for duplicates.
    for (let i = 0; i < 5; i++) await publishLog.burst(70);
    expect(publishLog.outcomes).toEqual({ confirmed: 420, PUBLISH_UNCONFIRMED: 70 });
    expect(publishLog.lies(await beside().records(topic, 420))).toEqual([]);
  });

  it('publishes at once after an idle connection was cut', async () => {
    const topic = await beside().topic();
    const { client } = await sender();
    await client.publish(topic, 0);
    proxy!.cut();
    // The client notices the cut later.
    await new Promise((resolve) => setTimeout(resolve, 100));
    await new Promise((resolve) => setImmediate(resolve));
    const began = performance.now();
    await client.publish(topic, 1);
    // kafkajs times out a request without a response after half a minute.
    expect(performance.now() - began).toBeLessThan(20_000);
    expect((await beside().records(topic, 2)).map(bodyOf)).toEqual(['0', '1']);
  });

  it('buffers up to its limit while the broker is unavailable, and confirms all in order when it is back', async () => {
    const topic = await beside().topic(uniqueTopic(), 3);
    const [{ client, connection }, small] = await Promise.all([
      direct({ maxBufferedMessages: 500 }),
      direct({ maxBufferedBytes: 10_000 }),
    ]);
    await Promise.all([client.publish(topic, -1), small.client.publish(topic, -2)]);
    await server!.stop();
    const publishLog = new PublishLog(client, topic);
    const known = publishLog.burst(600);
    const large = small.client.publish(topic, 'x'.repeat(8_000));
    const tooMuch = small.client.publish(topic, 'x'.repeat(8_000));
    await expect(tooMuch).rejects.toMatchObject({ code: 'BUFFER_FULL' });
    await expect.poll(() => connection().value).toBe('backoff');
    expect(publishLog.outcomes).toEqual({ undefined: 500, BUFFER_FULL: 100 });
    await server!.start();
    await known;
    expect(await large.then(() => 'ok', codeOf)).toBe('ok');
    expect(publishLog.outcomes).toEqual({ confirmed: 500, BUFFER_FULL: 100 });
    expect(publishLog.outcomeOf(499)).toBe('confirmed');
    const records = await beside().records(topic, 502);
    expect(publishLog.lies(records.filter((record) => /^\d+$/.test(bodyOf(record))))).toEqual([]);
  }, 180_000);

  it.each([false, true])(
    'reconnects by itself when the broker is killed under load (idempotent: %s)',
    async (idempotent) => {
      const topic = await beside().topic(uniqueTopic(), 3);
      const { client, states, connection } = await direct({ idempotent });
      const publishLog = new PublishLog(client, topic);
      const load = publishLog.load(50);
      await expect.poll(() => publishLog.confirmed.length).toBeGreaterThan(500);
      const began = states.length;
      await server!.kill();
      await expect.poll(() => connection().value).toBe('backoff');
      await server!.start();
      const before = publishLog.confirmed.length;
      await expect.poll(() => publishLog.confirmed.length).toBeGreaterThan(before + 500);
      await load.stop();
      expect(publishLog.otherOutcomes('confirmed', 'PUBLISH_UNCONFIRMED')).toEqual([]);
      // Everything that was in flight, and no more.
      expect(publishLog.outcomes['PUBLISH_UNCONFIRMED'] ?? 0).toBeLessThanOrEqual(50);
      expect(publishLog.lies(await beside().records(topic, publishLog.confirmed.length))).toEqual([]);
      expect(states.slice(began)).toContain('backoff');
      expect(connection().value).toBe('ready');
    },
    180_000,
  );
});
