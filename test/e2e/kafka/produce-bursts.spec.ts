import { describe, expect, it } from 'vitest';
import { patientClock } from '../../support/patient-clock.js';
import type { StoredRecord } from '../../support/kafka-topic-reader.js';
import {
  bodyOf,
  brokers,
  PublishLog,
  numbers,
  outcomesOf,
  startSender,
  useBeside,
} from './support-produce.js';
import { uniqueTopic } from './kafka-app.js';

const numberIn = (record: StoredRecord): number => (JSON.parse(bodyOf(record)) as { n: number }).n;

describe.skipIf(brokers === undefined)('Kafka: bursts', () => {
  const beside = useBeside(() => brokers!);

  it('confirms 20 000 tiny messages of one burst, in order', async () => {
    const topic = await beside().topic(uniqueTopic(), 3);
    const { client } = await startSender({ maxBufferedMessages: 20_000 });
    const publishLog = new PublishLog(client, topic);
    const began = performance.now();
    await publishLog.burst(20_000);
    const tookMs = performance.now() - began;
    expect(publishLog.outcomes).toEqual({ confirmed: 20_000 });
    expect(publishLog.lies(await beside().records(topic, 20_000))).toEqual([]);
    expect(tookMs, 'ms').toBeLessThan(30_000);
  });

  it('rejects only the message that is too large, the others are confirmed in order', async () => {
    const topic = await beside().topic();
    const { client } = await startSender();
    const huge = 'x'.repeat(1_500_000);
    const sent = Array.from({ length: 3_000 }, (_, n) =>
      client.publish(topic, n === 500 || n === 2_999 ? huge : { n, text: 'y'.repeat(500) }),
    );
    const ok = numbers(3_000, (n) => n !== 500 && n !== 2_999);
    expect(await outcomesOf(sent)).toEqual({ TOO_LARGE: [500, 2_999], ok });
    expect((await beside().records(topic, 2_998)).map(numberIn)).toEqual(ok);
  });

  it('finds the lower size limit of a topic', async () => {
    const small = { name: 'max.message.bytes', value: '20000' };
    const topic = await beside().topic(uniqueTopic(), 1, [small]);
    const { client } = await startSender();
    const sent = Array.from({ length: 400 }, (_, n) =>
      client.publish(topic, { n, text: 'y'.repeat(n === 123 ? 30_000 : 1_000) }, { key: 'k' }),
    );
    const ok = numbers(400, (n) => n !== 123);
    expect(await outcomesOf(sent)).toEqual({ TOO_LARGE: [123], ok });
    expect((await beside().records(topic, 399)).map(numberIn)).toEqual(ok);
  });

  it('flushes at the close: none of 5 000 publishes that were not awaited is lost silently', async () => {
    const topic = await beside().topic(uniqueTopic(), 3);
    const { client, close } = await startSender({}, patientClock);
    const publishLog = new PublishLog(client, topic);
    const known = publishLog.burst(5_000);
    await close();
    await known;
    expect(publishLog.outcomes).toEqual({ confirmed: 5_000 });
    expect(publishLog.lies(await beside().records(topic, 5_000))).toEqual([]);
    await expect(client.publish(topic, 'late')).rejects.toMatchObject({ code: 'CLOSED' });
  });
});
