import { describe, it } from 'vitest';
import { checkDelaysAtOnce } from '../retry-delays.js';
import { brokers, startKafkaApp, uniqueName, useRaw } from './support.js';

describe.skipIf(brokers === undefined)('Kafka: delays', () => {
  const raw = useRaw();

  it('of a second and of a minute at once: never early, at most a second late, and no message is delayed by another', async () => {
    const topic = await raw().topic(3);
    const options = { fromBeginning: true };
    await checkDelaysAtOnce(topic, (controller) =>
      startKafkaApp({ group: uniqueName(), handlers: [controller], options }),
    );
  }, 180_000);
});
