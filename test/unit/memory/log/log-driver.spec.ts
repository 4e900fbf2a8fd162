import { describe, expect, it } from 'vitest';
import { StorkConfigError } from '../../../../lib/core/runtime/errors.js';
import type { MemoryRecord } from '../../../../lib/memory/broker/topics/memory-topic.js';
import { LogDriver } from '../../../../lib/memory/log/log-driver.js';
import type { MemoryOptions } from '../../../../lib/memory/options.js';
import { environment, outbound, replyOf, specOf, subscribed } from '../driver-environment.js';
import { newBroker } from '../harness.js';

async function newDriver(options: Partial<MemoryOptions> = {}) {
  const { broker } = newBroker();
  broker.createTopic('t', { partitions: 1 });
  const driver = new LogDriver(broker, { mode: 'log', ...options }, environment);
  await driver.connect();
  const records = (): readonly MemoryRecord[] => broker.topic('t')!.read(0, 0, 100);
  return { driver, records };
}

describe('a published message', () => {
  it('carries its pattern in a header where its topic has another name', async () => {
    const { driver, records } = await newDriver();
    await driver.publish(outbound('a', { to: { topic: 't' } }));
    await driver.publish(outbound('t'));
    expect(records().map(({ headers }) => headers['stork-pattern'])).toEqual(['a', undefined]);
  });

  it('is a tombstone where its body is null in JSON', async () => {
    const { driver, records } = await newDriver();
    await driver.publish(outbound('t', { body: Buffer.from('null') }));
    await driver.publish(outbound('t', { body: Buffer.from('null'), contentType: 'text/plain' }));
    expect(records().map(({ value }) => value?.toString())).toEqual([undefined, 'null']);
  });

  it('must name its topic where the transport reads several by a pattern header', async () => {
    const { driver } = await newDriver({ topics: ['t', 'u'], patternHeader: 'kind' });
    await expect(driver.publish(outbound('t'))).rejects.toThrow(StorkConfigError);
    await driver.publish(outbound('a', { to: { topic: 't' } }));
  });
});

it('the end of a stream of replies has no value', async () => {
  const { driver, records } = await newDriver();
  await driver.reply({ topic: 't', partition: 0 }, replyOf('end'));
  expect(records().map(({ value }) => value)).toEqual([null]);
});

describe('a subscription is refused', () => {
  it('where no topic can be a pattern of it', async () => {
    const { driver } = await newDriver({ topics: ['b', 'c'] });
    expect(driver.validate(specOf(subscribed('a')))[0]!.expected).toContain('b, c');
    expect(driver.validate(specOf(subscribed('b')))).toEqual([]);
  });

  it('where a pattern is no legal topic name, and the handler is named', async () => {
    const { driver } = await newDriver();
    expect(driver.validate(specOf(subscribed('order.*')))[0]!.name).toContain('A.b');
  });
});
