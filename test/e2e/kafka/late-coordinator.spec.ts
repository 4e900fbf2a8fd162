import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { Kafka, logLevel, type Admin } from 'kafkajs';
import { eventually } from '../../contract/app.js';
import { throwAway, type ThrowAway } from '../../support/brokers/index.mjs';
import { createTopic } from '../../support/kafka-topics.js';
import { openStore, replayAll } from './dead-letter-stores.js';
import { brokers, linesAbout, startKafkaApp, uniqueName } from './support.js';

/**
 * A replication factor above the number of brokers: no coordinator exists until the test creates
 * __consumer_offsets and __transaction_state.
 */
const config = ['offsets.topic', 'transaction.state.log'].flatMap((name) => [
  `${name}.replication.factor=2`,
  `${name}.num.partitions=1`,
]);
/** Longer than kafkajs itself searches for a coordinator. */
const awayMs = 2_500;

describe.skipIf(brokers === undefined)('Kafka: a coordinator that becomes available late', () => {
  let server: ThrowAway<'kafka'>;
  let foreign: Kafka;
  let admin: Admin;

  beforeAll(async () => {
    server = await throwAway('kafka', { version: inject('kafkaVersion'), config });
    foreign = new Kafka({ brokers: server.brokers, logLevel: logLevel.NOTHING });
    admin = foreign.admin();
    await admin.connect();
  }, 240_000);
  afterAll(async () => {
    await admin.disconnect();
    await server.remove();
  });

  const makeInternal = (topic: string) =>
    admin.createTopics({
      topics: [
        {
          topic,
          numPartitions: 1,
          replicationFactor: 1,
          configEntries: [{ name: 'cleanup.policy', value: 'compact' }],
        },
      ],
      waitForLeaders: false,
    });

  it('is waited for by a replay', async () => {
    const [source, group] = [uniqueName(), uniqueName()];
    for (const topic of [source, `${source}.dlq`]) await createTopic(admin, topic, 1);
    const producer = foreign.producer();
    await producer.connect();
    const headers = { 'stork-origin': source, 'stork-group': group, 'stork-death-reason': 'rejected' };
    await producer.send({ topic: `${source}.dlq`, messages: [{ value: '1', headers }] });
    await producer.disconnect();
    const opened = await openStore({ brokers: server.brokers, groupId: group }, { source });
    try {
      const replayed = replayAll(opened.store);
      await Promise.race([replayed, new Promise((go) => setTimeout(go, awayMs))]);
      await makeInternal('__transaction_state');
      expect(await replayed).toMatchObject({ done: 1, skipped: 0 });
    } finally {
      await opened.close();
    }
  });

  it('is waited for by a request', async () => {
    const topic = uniqueName();
    await createTopic(admin, topic, 1);
    const { client } = await startKafkaApp({
      group: uniqueName(),
      handlers: [],
      options: { brokers: server.brokers },
    });
    let failure: unknown;
    client.request(topic, 1).catch((error: unknown) => (failure = error));
    await eventually(
      async () => failure ?? linesAbout('warn', 'replies cannot be read yet')[0],
      'the log line',
    );
    await expect(client.request(topic, 2, { timeoutMs: 100 })).rejects.toThrow(
      'replies cannot be read at present',
    );
    await makeInternal('__consumer_offsets');
    // The request is published once replies can be read.
    await eventually(async () => {
      expect(failure).toBeUndefined();
      const [partition] = await admin.fetchTopicOffsets(topic);
      return partition?.high === '1' ? true : undefined;
    }, 'the request');
    expect(linesAbout('log', 'replies are read')).toHaveLength(1);
  });

  it('or a missing broker is reported by a request', async () => {
    const topic = uniqueName();
    await createTopic(admin, topic, 1);
    const options = { brokers: server.brokers };
    const { client } = await startKafkaApp({ group: uniqueName(), handlers: [], options });
    await server.kill();
    await expect(client.request(topic, 1)).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
  });
});
