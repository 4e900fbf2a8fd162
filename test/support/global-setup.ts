import type { TestProject } from 'vitest/node';
import { ensure, stop } from './brokers/index.mjs';
import { isListening } from './brokers/parts.mjs';

declare module 'vitest' {
  interface ProvidedContext {
    /** AMQP address of the RabbitMQ to test against; undefined where brokers are skipped. */
    rabbitmqUrl: string | undefined;
  }
}

/** `STORK_RABBITMQ=4` tests against RabbitMQ 4 instead of the system's own. */
const version: '4' | undefined = process.env['STORK_RABBITMQ'] === '4' ? '4' : undefined;

/** Brings up the brokers that the tests need, and ends those that it had to start. */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (process.env['STORK_SKIP_BROKERS'] === '1') {
    project.provide('rabbitmqUrl', undefined);
    return undefined;
  }
  const options = { rabbitmq: version };
  const wasUp =
    process.env['RABBITMQ_URL'] !== undefined || (await isListening(version === '4' ? 5682 : 5672));
  const { rabbitmq } = await ensure(['rabbitmq'], options);
  project.provide('rabbitmqUrl', rabbitmq.url);
  // Whoever brought it up before wants it to stay.
  return wasUp ? undefined : () => stop('rabbitmq', options);
}
