import { describe, expect, inject, it } from 'vitest';
import { seeded } from '../../support/seeded.js';
import { useWorkerFile } from '../../support/worker-file.js';
import { url, useRaw } from '../rabbitmq/support.js';
import { kills, liveAndDie, messages, missing, repeated, countsOf, type Dying } from './kills.js';
import { concurrency, redeliverDelayMs, type Moment } from './moments.js';

const seed = Number(process.env['STORK_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
/** Delivered and not acknowledged when a worker dies: its prefetch. */
const inFlight = 2 * concurrency;
const limitMs = 300_000;
const redisUrl = inject('redisUrl');

describe.skipIf(url === undefined)(`RabbitMQ: a consumer that is killed, seed ${seed}`, () => {
  const raw = useRaw();
  const file = useWorkerFile('test/e2e/kills/worker.ts', url === undefined);

  /** A queue with a thousand messages in it. */
  async function fill(): Promise<string> {
    const queue = raw().queue();
    raw().queue(`${queue}.retry.${redeliverDelayMs}`);
    const { channel } = raw();
    await channel.assertQueue(`${queue}.dlq`, {
      arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000 },
    });
    await channel.assertQueue(queue, {
      arguments: {
        'x-queue-type': 'quorum',
        'x-delivery-limit': 100,
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': `${queue}.dlq`,
        'x-dead-letter-strategy': 'at-least-once',
        'x-overflow': 'reject-publish',
      },
    });
    for (let n = 0; n < messages; n++)
      channel.sendToQueue(queue, Buffer.from(JSON.stringify({ n })), {
        type: 'work',
        messageId: `${queue}-${n}`,
        contentType: 'application/json',
        headers: { 'stork-key': `k${n % 40}` },
      });
    await raw().confirmed();
    return queue;
  }

  const dying = (settings: Dying['settings']): Dying => ({ file, settings, random: seeded(seed) });
  const settingsOf = (source: string, moment: Moment) =>
    ({ broker: 'rabbitmq', address: url!, source, moment }) as const;
  const emptied = (queue: string) => async (): Promise<boolean> =>
    (await raw().count(queue)) === 0 && (await raw().count(`${queue}.retry.${redeliverDelayMs}`)) === 0;

  it.concurrent.for(['running', 'handled', 'retry-published'] as const)(
    'loses nothing and repeats no more than was in flight: %s',
    { timeout: limitMs },
    async (moment, hooks) => {
      const queue = await fill();
      const settings = settingsOf(queue, moment);
      const lives = await liveAndDie(dying(settings), hooks, async (all) => {
        return missing(countsOf(all, 'end')).length === 0 && (await emptied(queue)());
      });
      const counts = countsOf(lives, 'end');
      console.log(
        `${moment}: ${repeated(counts)} of ${messages} repeated after ${kills} kills, seed ${seed}`,
      );
      expect(missing(counts)).toEqual([]);
      expect(repeated(counts)).toBeLessThanOrEqual(kills * inFlight);
      expect(await raw().count(`${queue}.dlq`)).toBe(0);
    },
  );

  it.concurrent(
    'handles no message again that the store has marked as done: begun',
    async (hooks) => {
      const queue = await fill();
      raw().queue(`${queue}.retry.1000`);
      const settings = { ...settingsOf(queue, 'begun'), redisUrl };
      const lives = await liveAndDie(dying(settings), hooks, async (all) => {
        return missing(countsOf(all, 'end')).length === 0 && (await emptied(queue)());
      });
      const counts = countsOf(lives, 'end');
      console.log(`begun: ${repeated(counts)} of ${messages} repeated after ${kills} kills, seed ${seed}`);
      expect(missing(counts)).toEqual([]);
      expect(repeated(counts)).toBeLessThanOrEqual(kills * concurrency);
      expect(await raw().count(`${queue}.dlq`)).toBe(0);
    },
    limitMs,
  );

  it.concurrent(
    'loses no dead letter, and duplicates no more than were in flight: dead-letter-published',
    async (hooks) => {
      const queue = await fill();
      const settings = settingsOf(queue, 'dead-letter-published');
      await liveAndDie(dying(settings), hooks, async (all) => {
        return missing(countsOf(all, 'failed')).length === 0 && (await emptied(queue)());
      });
      expect(await raw().count(queue)).toBe(0);
      const deadLetters = (await raw().drain(`${queue}.dlq`)).map(
        (body) => (JSON.parse(body) as { n: number }).n,
      );
      const doubled = deadLetters.length - new Set(deadLetters).size;
      console.log(
        `dead-letter-published: ${doubled} of ${messages} dead letters twice after ${kills} kills, seed ${seed}`,
      );
      expect(missing(new Set(deadLetters))).toEqual([]);
      expect(doubled).toBeLessThanOrEqual(kills * inFlight);
    },
    limitMs,
  );
});
