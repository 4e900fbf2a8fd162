import { onTestFinished } from 'vitest';
import type { ConsumeMessage, Options } from 'amqplib';
import { systemClock } from '../../../lib/core/runtime/clock.js';
import { Counters } from '../../../lib/core/runtime/reporting.js';
import type { DeadLetterStore, DeadLetterLocation } from '../../../lib/core/port/dead-letter-store.js';
import {
  discardDeadLetters,
  listDeadLetters,
  replayDeadLetters,
  type DeadLetterReport,
  type ReplayOptions,
} from '../../../lib/core/dead-letter/admin/dead-letter-operations.js';
import type { DeadLetterRecord } from '../../../lib/core/dead-letter/admin/dead-letter-record.js';
import { RabbitMqDriver } from '../../../lib/rabbitmq/driver.js';
import type { RabbitMqOptions } from '../../../lib/rabbitmq/options.js';
import { reconnect, url, type Raw } from './support.js';

const quiet = (): void => {};
export const never = new AbortController().signal;

/** A transport's driver, connected; closed when the test ends. */
export async function connectDriver(options: Partial<RabbitMqOptions>): Promise<RabbitMqDriver> {
  const driver = new RabbitMqDriver(
    { url, reconnect, ...options },
    {
      name: 'main',
      clock: systemClock,
      logger: { log: quiet, warn: quiet, error: quiet, debug: quiet },
      counters: new Counters(),
      shared: new Map(),
    },
  );
  onTestFinished(() => driver.close(2_000));
  await driver.connect(AbortSignal.timeout(30_000));
  return driver;
}

export async function openStore(
  options: Partial<RabbitMqOptions>,
  place: DeadLetterLocation = {},
): Promise<DeadLetterStore> {
  const driver = await connectDriver(options);
  return driver.deadLetters(place);
}

export function list(
  store: DeadLetterStore,
  filter = {},
  max = Infinity,
): Promise<readonly DeadLetterRecord[]> {
  return listDeadLetters(store, { filter, max, signal: never });
}

const workOptions: ReplayOptions = {
  filter: {},
  signal: never,
  dryRun: false,
  max: Infinity,
  rate: Infinity,
  window: 1,
  clock: systemClock,
  maxReplays: 3,
  onProgress: () => {},
};

export function replay(
  store: DeadLetterStore,
  options: Partial<ReplayOptions> = {},
): Promise<DeadLetterReport> {
  return replayDeadLetters(store, { ...workOptions, ...options });
}

export function discard(
  store: DeadLetterStore,
  options: Partial<ReplayOptions> = {},
): Promise<DeadLetterReport> {
  return discardDeadLetters(store, { ...workOptions, ...options });
}

/** The headers that the library writes to a dead letter, unless a test overrides them. */
export function deadLetterHeaders(source: string, n: number): Record<string, unknown> {
  return {
    'stork-death-reason': 'retries-exhausted',
    'stork-origin': source,
    'stork-origin-routing-key': 'job',
    'stork-handler': 'Worker.job',
    'stork-attempt': '4',
    'stork-failed-at': new Date(Date.UTC(2026, 0, 1) + n * 1_000).toISOString(),
    'stork-error-name': 'TypeError',
    'stork-error-message': 'no way',
  };
}

/** A source and its dead letters, `0` to `count - 1`. */
export async function fillDeadLetterQueue(
  raw: Raw,
  count: number,
  given: (n: number) => Options.Publish = () => ({}),
): Promise<{ queue: string; dlq: string }> {
  const queue = raw.queue();
  const dlq = `${queue}.dlq`;
  const quorum = { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 };
  for (const name of [queue, dlq]) await raw.channel.assertQueue(name, { durable: true, arguments: quorum });
  for (let n = 0; n < count; n++) {
    const { headers, ...options } = given(n);
    raw.channel.publish('', dlq, Buffer.from(String(n)), {
      type: 'job',
      messageId: `m-${n}`,
      contentType: 'application/json',
      ...options,
      headers: { ...deadLetterHeaders(queue, n), ...headers },
    });
  }
  await raw.confirmed();
  return { queue, dlq };
}

/** Consumes and acknowledges every message of the queue: bodies and headers. */
export async function takeAll(raw: Raw, queue: string): Promise<readonly ConsumeMessage[]> {
  return raw.with(async (channel) => {
    const taken: ConsumeMessage[] = [];
    for (;;) {
      const message = await channel.get(queue, { noAck: true });
      if (message === false) return taken;
      taken.push(message as unknown as ConsumeMessage);
    }
  });
}

/** Without the delivery count that the broker adds. */
export function headersOf({ properties }: ConsumeMessage): Record<string, unknown> {
  const { 'x-delivery-count': _, ...headers } = { ...properties.headers };
  return headers;
}

export const bodies = (deadLetters: readonly { readonly body: Buffer | null }[]): string[] =>
  deadLetters.map(({ body }) => String(body));
export const upTo = (count: number): string[] => Array.from({ length: count }, (_, n) => String(n));
