import kafkajs, { type Consumer, type ConsumerConfig } from 'kafkajs';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  brokers,
  eventually,
  Gate,
  later,
  range,
  Seen,
  startKafkaApp,
  uniqueName,
  useRaw,
} from './support.js';

/** `STORK_KAFKA_RECORDS=1000000` for the long version. */
const records = Number(process.env['STORK_KAFKA_RECORDS'] ?? 80_000);

type Maker = (this: kafkajs.Kafka, config?: ConsumerConfig) => Consumer;

/** Small enough that reading the log takes many fetches. */
const smallFetches = { maxBytesPerPartition: 16 * 1024 };

/** How often the client fetched, and how often it slept because every partition was paused. */
interface Fetches {
  count: number;
  /** Durations in milliseconds. */
  readonly took: number[];
  records: number;
  /**
   * How long within an interval, in milliseconds since the Unix epoch, fetches that return records waited for
   * the broker.
   */
  readonly waitedMs: (since: number, until: number) => number;
}

describe.skipIf(brokers === undefined)('Kafka: a log that is larger than memory', () => {
  const raw = useRaw();

  async function fill(topic: string, partitions: number): Promise<void> {
    const each = 2_000;
    for (const [i, first] of range(0, records / each).map((n) => [n, n * each] as const)) {
      const messages = range(first, each).map((n) => ({
        key: `k${n % 50}`,
        value: String(n),
        partition: i % partitions,
      }));
      await raw().producer.send({ topic, messages, compression: 1 });
    }
  }

  /** Observes the consumers that the client creates. */
  function watchFetches(): Fetches {
    const answers: { readonly since: number; readonly until: number }[] = [];
    const waitedMs: Fetches['waitedMs'] = (since, until) =>
      answers
        .map((answer) => Math.min(until, answer.until) - Math.max(since, answer.since))
        .reduce((sum, ms) => sum + Math.max(0, ms), 0);
    const fetches: Fetches = { count: 0, took: [], records: 0, waitedMs };
    const consumer = Reflect.get(kafkajs.Kafka.prototype, 'consumer') as Maker;
    const spy = vi.spyOn(kafkajs.Kafka.prototype, 'consumer').mockImplementation(function (
      this: kafkajs.Kafka,
      config,
    ): Consumer {
      const made = consumer.call(this, config);
      made.on('consumer.fetch', ({ payload }) => {
        fetches.count++;
        fetches.took.push(payload.duration);
      });
      made.on('consumer.network.request', ({ payload: { apiName, size, sentAt, duration } }) => {
        // A fetch without records waits for up to maxWaitTimeInMs, which is not the library's delay.
        if (apiName === 'Fetch' && size > 1_000) answers.push({ since: sentAt, until: sentAt + duration });
      });
      made.on('consumer.start_batch_process', ({ payload }) => {
        fetches.records += payload.batchSize;
      });
      return made;
    });
    onTestFinished(() => spy.mockRestore());
    return fetches;
  }

  it('is read at the pace of slow handlers: memory is bounded, and reading continues at once', async () => {
    const [topic, group] = [await raw().topic(4), uniqueName()];
    await fill(topic, 4);
    const fetches = watchFetches();
    let gate = new Gate();
    const seen = new Set<number>();
    const handle = async (body: unknown): Promise<void> => {
      await gate.opened;
      seen.add(body as number);
    };
    const heapBefore = process.memoryUsage().heapUsed;
    const { state } = await startKafkaApp({
      group,
      handlers: { [topic]: handle },
      options: { fromBeginning: true, fetch: smallFetches },
    });
    // While every buffer is full the client fetches nothing and only sleeps.
    await eventually(() => (state().inFlight > 0 ? true : undefined), 'the first records');
    await later(3_000);
    const held = process.memoryUsage().heapUsed - heapBefore;
    const fetched = fetches.count;
    await later(1_000);
    expect(fetches.count - fetched, 'fetches per second while paused').toBeLessThan(8);
    expect(fetches.records, 'records in memory').toBeLessThan(40_000);
    expect(held, 'heap').toBeLessThan(150 * 1024 * 1024);
    expect(state().inFlight).toBeLessThanOrEqual(64);
    gate.open();
    const opened = Date.now();
    let largest = 0;
    while (seen.size < records && Date.now() - opened < 120_000) {
      largest = Math.max(largest, process.memoryUsage().heapUsed - heapBefore);
      await later(50);
    }
    expect(seen.size).toBe(records);
    expect(largest, 'heap').toBeLessThan(250 * 1024 * 1024);
    await raw().settled(group, topic);
    gate = new Gate();
  }, 200_000);

  it('is read at full speed by fast handlers: the buffers do not run empty while the client sleeps', async () => {
    const [topic, group] = [await raw().topic(4), uniqueName()];
    await fill(topic, 4);
    const fetches = watchFetches();
    let count = 0;
    let stalls = 0;
    let last = 0;
    // Turns of the event loop: without them the process was starved and could not have continued.
    let turns = 0;
    let turnsBefore = 0;
    const turning = setInterval(() => turns++, 10);
    onTestFinished(() => clearInterval(turning));
    const handle = (): void => {
      const now = Date.now();
      const gapMs = now - last;
      if (last > 0 && gapMs > 150 && turns - turnsBefore >= 10 && gapMs - fetches.waitedMs(last, now) > 150)
        stalls++;
      last = now;
      turnsBefore = turns;
      count++;
    };
    const options = { fromBeginning: true, fetch: smallFetches };
    await startKafkaApp({ group, handlers: { [topic]: handle }, options });
    const began = performance.now();
    await eventually(() => (count >= records ? true : undefined), 'all of them', 120_000);
    const perSecond = Math.round((records / (performance.now() - began)) * 1_000);
    const slept = fetches.took.filter((ms) => ms >= 240).length;
    console.log(
      `${records} records, ${perSecond} per second, ${fetches.count} fetches, of which ${slept} slept, ${stalls} stalls`,
    );
    // How often the client slept depends on the machine's speed; that no handler waited for it does not.
    expect(stalls, 'stalls').toBeLessThanOrEqual(2);
    await raw().settled(group, topic);
  }, 200_000);

  it('continues at once when the handler that blocked every partition ends', async () => {
    const [topic, group] = [await raw().topic(1), uniqueName()];
    const gate = new Gate();
    const seen = new Seen<number>();
    const handle = async (body: unknown): Promise<void> => {
      if (body === 0) await gate.opened;
      seen.add(body as number);
    };
    await startKafkaApp({ group, handlers: { [topic]: handle }, options: { maxOffsetGap: 100 } });
    const messages = range(0, 10_000).map((n) => ({ key: `k${n}`, value: String(n) }));
    for (const first of range(0, 100)) {
      await raw().producer.send({ topic, messages: messages.slice(first * 100, first * 100 + 100) });
    }
    await seen.count(99);
    await later(500);
    expect(seen.all.length).toBe(99);
    const began = Date.now();
    gate.open();
    await seen.count(10_000);
    // A hundred times the gap: one sleep of the client after each would take twenty-five seconds.
    expect(Date.now() - began).toBeLessThan(15_000);
    await raw().settled(group, topic);
  });
});
