import { describe, expect, inject, it } from 'vitest';
import { brokers, useForeign } from '../kafka/kafka-app.js';
import { committedOffsets } from '../../support/kafka-topics.js';
import { seeded } from '../../support/seeded.js';
import { useWorkerFile } from '../../support/worker-file.js';
import {
  kills,
  liveAndDie,
  messages,
  missing,
  repeated,
  countsOf,
  unexplained,
  type Dying,
} from './kills.js';
import { concurrency, redeliverDelayMs, type Moment } from './moments.js';

const seed = Number(process.env['STORK_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
const partitions = 3;
const limitMs = 300_000;
const redisUrl = inject('redisUrl');

describe.skipIf(brokers === undefined)(`Kafka: a consumer that is killed, seed ${seed}`, () => {
  const foreign = useForeign();
  const file = useWorkerFile('test/e2e/kills/worker.ts', brokers === undefined);

  /** A topic with a thousand records in it. */
  async function fill(): Promise<string> {
    const topic = await foreign().topic(undefined, partitions);
    foreign().noted(retryTopic(topic));
    foreign().noted(`${topic}.retry.${topic}.0`);
    const records = Array.from({ length: messages }, (_, n) => ({
      key: `k${n % 40}`,
      value: JSON.stringify({ n }),
      headers: { 'stork-pattern': 'work', 'content-type': 'application/json' },
    }));
    await foreign().send(topic, ...records);
    return topic;
  }

  const retryTopic = (topic: string): string => `${topic}.retry.${topic}.${redeliverDelayMs}`;

  async function lag(group: string, topic: string): Promise<number> {
    const ends = await foreign().admin.fetchTopicOffsets(topic);
    const committed = await committedOffsets(foreign().admin, group, topic);
    return ends.reduce((sum, { partition, high }) => sum + Number(high) - (committed.get(partition) ?? 0), 0);
  }

  const dying = (settings: Dying['settings'], killed?: Dying['killed']): Dying => ({
    file,
    settings,
    random: seeded(seed),
    killed,
  });

  /** What the group of a topic had committed when each of its workers was killed. */
  async function watchCommits(topic: string) {
    const records = await foreign().records(topic, messages);
    const places = new Map(
      records.map(({ value, ...place }) => [(JSON.parse(String(value)) as { n: number }).n, place]),
    );
    const commits: ReadonlyMap<number, number>[] = [];
    return {
      killed: async (): Promise<void> => {
        commits.push(await committedOffsets(foreign().admin, topic, topic));
      },
      wasCommitted: (n: number, life: number): boolean => {
        const { partition, offset } = places.get(n)!;
        return offset < (commits[life]?.get(partition) ?? 0);
      },
      /** Number of records that were committed at the last kill. */
      count: (): number => [...(commits.at(-1)?.values() ?? [])].reduce((sum, offset) => sum + offset, 0),
    };
  }

  const settingsOf = (source: string, moment: Moment) =>
    ({ broker: 'kafka', address: brokers!.join(','), source, moment }) as const;

  it.concurrent.for(['running', 'handled', 'retry-published'] as const)(
    'loses nothing and repeats only what was settled since the last commit: %s',
    { timeout: limitMs },
    async (moment, hooks) => {
      const topic = await fill();
      const { killed, wasCommitted, count } = await watchCommits(topic);
      const lives = await liveAndDie(dying(settingsOf(topic, moment), killed), hooks, async (all) => {
        if (missing(countsOf(all, 'end')).length > 0 || (await lag(topic, topic)) > 0) return false;
        return moment !== 'retry-published' || (await lag(topic, retryTopic(topic))) === 0;
      });
      const counts = countsOf(lives, 'end');
      console.log(
        `${moment}: ${repeated(counts)} of ${messages} repeated after ${kills} kills, ${count()} committed by then, seed ${seed}`,
      );
      expect(missing(counts)).toEqual([]);
      // Retry records may have been written twice, by an attempt that failed before the kill.
      if (moment !== 'retry-published') expect(unexplained(lives, 'end', wasCommitted)).toEqual([]);
      expect(unexplained(lives, 'failed', wasCommitted)).toEqual([]);
      // Republished records are committed before such a worker dies; for the other moments nothing may be.
      if (moment === 'retry-published') expect(count()).toBeGreaterThan(0);
    },
  );

  it.concurrent(
    'handles no record again that the store has marked as done: begun',
    async (hooks) => {
      const topic = await fill();
      const settings = { ...settingsOf(topic, 'begun'), redisUrl };
      const lives = await liveAndDie(dying(settings), hooks, async (all) => {
        return missing(countsOf(all, 'end')).length === 0 && (await lag(topic, topic)) === 0;
      });
      const counts = countsOf(lives, 'end');
      console.log(`begun: ${repeated(counts)} of ${messages} repeated after ${kills} kills, seed ${seed}`);
      expect(missing(counts)).toEqual([]);
      expect(repeated(counts)).toBeLessThanOrEqual(kills * concurrency);
    },
    limitMs,
  );

  it.concurrent(
    'loses no dead letter, and duplicates only those that failed since the last commit: dead-letter-published',
    async (hooks) => {
      const topic = await fill();
      const { killed, wasCommitted, count } = await watchCommits(topic);
      const program = dying(settingsOf(topic, 'dead-letter-published'), killed);
      const lives = await liveAndDie(program, hooks, async (all) => {
        return missing(countsOf(all, 'failed')).length === 0 && (await lag(topic, topic)) === 0;
      });
      const deadLetters = (await foreign().records(`${topic}.dlq`, messages)).map(
        ({ value }) => (JSON.parse(String(value)) as { n: number }).n,
      );
      const doubled = deadLetters.length - new Set(deadLetters).size;
      console.log(
        `dead-letter-published: ${doubled} of ${messages} dead letters twice after ${kills} kills, ${count()} committed by then, seed ${seed}`,
      );
      expect(missing(new Set(deadLetters))).toEqual([]);
      expect(unexplained(lives, 'failed', wasCommitted)).toEqual([]);
      expect(count()).toBeGreaterThan(0);
    },
    limitMs,
  );
});
