import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, KafkaContext as NestKafkaContext } from '@nestjs/microservices';
import { describe, expect, it } from 'vitest';
import type { DecodedRecord } from 'nestjs-stork/kafka';
import { Seen } from '../../contract/app.js';
import { brokers, startKafkaApp, uniqueTopic, useForeign } from './kafka-app.js';

describe.skipIf(brokers === undefined)("Kafka: code written for Nest's KafkaContext", () => {
  const foreign = useForeign();

  it('reads the record, and is told what to use instead of consumer and producer', async () => {
    const topic = uniqueTopic();
    await foreign().topic(topic);
    const seen = new Seen<Record<string, unknown>>();
    const problems: string[] = [];
    const attempt = (work: () => unknown): void => {
      try {
        work();
      } catch (error) {
        problems.push(String(error));
      }
    };
    @Controller()
    class Jobs {
      @EventPattern<string>(topic)
      async job(@Ctx() context: NestKafkaContext): Promise<void> {
        await context.getHeartbeat()();
        attempt(() => context.getConsumer());
        attempt(() => context.getProducer());
        const record = context.getMessage() as unknown as DecodedRecord;
        const { key, value, headers, offset, timestamp, partition } = record;
        seen.add({ key, value, headers, offset, topic: record.topic, partition, at: typeof timestamp });
        seen.add({ topic: context.getTopic(), partition: context.getPartition() });
      }
    }
    await startKafkaApp({ controllers: [Jobs] });
    await foreign().send(topic, {
      key: 'k-1',
      value: '{"n":1}',
      headers: { tenant: 'blue', list: ['a', 'b'], constructor: 'x' },
    });
    expect(await seen.count(2)).toEqual([
      {
        key: 'k-1',
        value: { n: 1 },
        headers: { tenant: 'blue', list: 'a', constructor: 'x' },
        offset: '0',
        topic,
        partition: 0,
        at: 'string',
      },
      { topic, partition: 0 },
    ]);
    expect(problems).toEqual([
      expect.stringContaining("use @Consume({ delivery: 'manual' }) and ctx.ack()"),
      expect.stringContaining('@InjectClient()'),
    ]);
  });
});
