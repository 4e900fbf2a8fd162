import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KafkaFailure } from '../../../../lib/kafka/client/client.js';
import { sizeOf } from '../../../../lib/kafka/produce/partition-batcher.js';
import type { PublishCancellation } from '../../../../lib/core/port/publish-cancellation.js';
import { settle } from '../../core/harness.js';
import { newProducerBench, newRecord, type FakeProducer, type FakeSend } from '../producer-harness.js';

type SendOutcome = 'confirmed' | 'foreign error' | KafkaFailure;

type Step =
  | { readonly do: 'publish'; readonly burst: readonly Published[] }
  | { readonly do: 'answer'; readonly which: number; readonly answer: SendOutcome }
  | { readonly do: 'advance'; readonly ms: number }
  | {
      readonly do: 'break';
      readonly what: 'openFailures' | 'metadataFailures';
      readonly failure: KafkaFailure;
    }
  | { readonly do: 'cancel'; readonly which: number }
  | { readonly do: 'grow' }
  | { readonly do: 'close'; readonly limitMs: number };

interface Published {
  readonly topic: string;
  readonly key: string | null;
  readonly partition: number | undefined;
  readonly size: number;
}

const brokerTakes = 900;
const maxBatchBytes = 1_500;
const partitions = { a: 2, b: 1 };

/** Records what the broker and the publishers have seen, and checks it against the allowed outcomes. */
class Model {
  readonly bench;
  readonly published = new Map<string, Published>();
  readonly lastAnswer = new Map<string, SendOutcome>();
  /** Values that were settled before the response of their request. */
  readonly settledEarly = new Set<string>();
  readonly deletedTopics = new Set<string>();
  readonly retiredProducers = new Set<FakeProducer>();
  readonly refusals = new Set<string>();
  readonly cancellations = new Map<string, PublishCancellation>();
  /** Cancelled values that were not written, and never may be. */
  readonly withdrawn = new Set<string>();
  readonly logs = new Map<string, number[]>();
  isClosing = false;
  isHealed = false;

  constructor(readonly idempotent: boolean) {
    this.bench = newProducerBench({
      settings: { acks: 'all', idempotent, compression: 'none' },
      maxBatchBytes,
      maxBufferedMessages: 60,
      maxBufferedBytes: 20_000,
    });
    this.bench.kafka.topics.clear();
    for (const [topic, count] of Object.entries(partitions)) this.bench.kafka.topics.set(topic, count);
    this.bench.kafka.onSend = (send) => this.onSend(send);
  }

  /** Outcomes after which a record is not written and may be sent again. */
  get unsent(): (SendOutcome | undefined)[] {
    return [undefined, 'too-large', ...(this.idempotent ? [] : (['unavailable'] as const))];
  }

  onSend(send: FakeSend): void {
    const { kafka } = this.bench;
    const samePartition = kafka.open.filter(
      ({ topic, partition }) => topic === send.topic && partition === send.partition,
    );
    expect(samePartition, 'one request in flight per partition').toEqual([send]);
    const bytes = send.records.reduce((sum, record) => sum + sizeOf(record), 0);
    expect(send.records.length).toBeGreaterThan(0);
    if (send.records.length > 1) expect(bytes).toBeLessThanOrEqual(maxBatchBytes);
    expect(this.retiredProducers.has(send.producer), 'a retired producer sends nothing').toBe(false);
    for (const value of send.values) {
      expect(this.unsent, 'resends only records that were not written').toContain(this.lastAnswer.get(value));
      expect(this.withdrawn.has(value), 'sends no record that was withdrawn').toBe(false);
    }
    // Not in the tick of the request: earlier failures are not processed yet.
    if (this.isHealed) setImmediate(() => this.answer(send, 'confirmed'));
  }

  answer(send: FakeSend, wanted: SendOutcome): void {
    const bytes = send.records.reduce((sum, record) => sum + sizeOf(record), 0);
    const answer = wanted === 'confirmed' && bytes > brokerTakes ? 'too-large' : wanted;
    // The broker does not reject a batch within its limit as too large.
    if (answer === 'too-large' && bytes <= brokerTakes) return this.answer(send, 'confirmed');
    for (const value of send.values) {
      // A response after the record was settled changes nothing.
      if (this.bench.outcomes.has(value)) this.settledEarly.add(value);
      this.lastAnswer.set(value, answer);
      const isRequeued = answer === 'unavailable' && !this.idempotent && !this.bench.outcomes.has(value);
      if (isRequeued && this.cancellations.get(value)!.isCancelled) this.withdrawn.add(value);
    }
    if (answer === 'confirmed') {
      this.recordWritten(send);
      return send.confirm();
    }
    if (answer === 'unknown-topic') this.deletedTopics.add(send.topic);
    if (answer === 'unknown-topic' || this.idempotent) this.retiredProducers.add(send.producer);
    send.fail(answer === 'foreign error' ? new TypeError('of the client') : answer);
    if (!this.idempotent) return;
    for (const other of this.bench.kafka.open) {
      if (other.producer === send.producer) for (const value of other.values) this.settledEarly.add(value);
    }
  }

  recordWritten(send: FakeSend): void {
    const where = `${send.topic}/${send.partition}`;
    const log = this.logs.get(where) ?? [];
    log.push(...send.values.map((value) => Number.parseInt(value, 10)));
    this.logs.set(where, log);
  }

  publish(burst: readonly Published[]): void {
    for (const one of burst) {
      const value = `${this.published.size} `.padEnd(one.size, 'x');
      this.published.set(value, one);
      const { messages, bytes } = this.bench.producer.buffered;
      const record = newRecord(value, one.key);
      const isFull = messages >= 60 || bytes + sizeOf(record) > 20_000;
      if (this.isClosing) this.refusals.add(`${value} ClientClosedError`);
      else if (isFull) this.refusals.add(`${value} BufferFullError`);
      this.cancellations.set(value, this.bench.publish(value, one.partition, one.topic, one.key));
    }
  }

  cancel(which: number): void {
    const unsettled = [...this.published.keys()].filter((value) => !this.bench.outcomes.has(value));
    if (unsettled.length === 0) return;
    const value = unsettled[which % unsettled.length]!;
    if (this.cancellations.get(value)!.cancel()) this.withdrawn.add(value);
  }

  async run(step: Step): Promise<void> {
    const { kafka, clock, producer } = this.bench;
    switch (step.do) {
      case 'publish':
        this.publish(step.burst);
        break;
      case 'answer': {
        const { open } = kafka;
        if (open.length > 0) this.answer(open[step.which % open.length]!, step.answer);
        break;
      }
      case 'advance':
        await clock.advance(step.ms);
        break;
      case 'break':
        kafka[step.what].push(step.failure);
        break;
      case 'cancel':
        this.cancel(step.which);
        break;
      case 'grow':
        kafka.topics.set('b', 3);
        break;
      case 'close':
        this.isClosing = true;
        void producer.close(step.limitMs);
        break;
    }
    await settle();
    this.checkBuffer();
  }

  checkBuffer(): void {
    const { producer, outcomes } = this.bench;
    const unsettled = [...this.published].filter(([value]) => !outcomes.has(value));
    const bytes = unsettled.reduce((sum, [value, { key }]) => sum + sizeOf(newRecord(value, key)), 0);
    expect(producer.buffered).toEqual({ messages: unsettled.length, bytes });
  }

  /** From now on every request succeeds. */
  async heal(): Promise<void> {
    const { kafka, clock, outcomes } = this.bench;
    this.isHealed = true;
    kafka.openFailures.length = 0;
    kafka.metadataFailures.length = 0;
    for (const send of kafka.open) {
      this.answer(send, 'confirmed');
      await settle();
    }
    for (let round = 0; round < 100 && outcomes.size < this.published.size; round++)
      await clock.advance(1_000);
  }

  checkEnd(): void {
    const { outcomes, kafka } = this.bench;
    this.checkBuffer();
    expect(outcomes.size, 'every publish settles').toBe(this.published.size);
    for (const [where, log] of this.logs) {
      expect(log, where).toEqual(log.toSorted((a, b) => a - b));
    }
    for (const [value, outcome] of outcomes) {
      const kind = outcome.split(':')[0]!;
      const story = `${Number.parseInt(value, 10)} after ${this.lastAnswer.get(value)}: ${outcome}`;
      expect(this.allowed(value), story).toContain(kind);
    }
    for (const one of kafka.producers.slice(0, -1)) {
      // Its records may be settled although a request of it is still in flight.
      if (kafka.open.some((send) => send.producer === one)) continue;
      expect(one.isClosed, 'a retired producer closes').toBe(true);
    }
  }

  /** Allowed outcomes of the publish. */
  allowed(value: string): string[] {
    const { topic, partition, key } = this.published.get(value)!;
    for (const refusal of ['ClientClosedError', 'BufferFullError']) {
      if (this.refusals.has(`${value} ${refusal}`)) return [refusal];
    }
    if (this.withdrawn.has(value)) return ['ok'];
    if (this.settledEarly.has(value)) return ['PublishUnconfirmedError'];
    const last = this.lastAnswer.get(value);
    if (this.bench.kafka.open.some(({ values }) => values.includes(value)))
      return ['PublishUnconfirmedError'];
    if (last === 'too-large' && sizeOf(newRecord(value, key)) > brokerTakes) {
      return ['MessageTooLargeError', ...this.neverSent(topic, partition)];
    }
    if (this.unsent.includes(last)) return this.neverSent(topic, partition);
    if (last === 'confirmed') return ['ok'];
    if (last === 'unknown-topic') return ['NoRouteError'];
    return [last === 'refused' ? 'PublishRejectedError' : 'PublishUnconfirmedError'];
  }

  neverSent(topic: string, partition: number | undefined): string[] {
    const hasNoRoute = !this.bench.kafka.topics.has(topic) || (partition ?? 0) > 0;
    return [
      ...(hasNoRoute || this.deletedTopics.has(topic) ? ['NoRouteError'] : []),
      ...(this.isClosing ? ['ClientClosedError'] : []),
      // The broker may have refused to open a producer, or to describe the topic.
      'PublishRejectedError',
    ];
  }
}

const published = fc.record({
  topic: fc.constantFrom('a', 'a', 'b', 'b', 'none'),
  key: fc.constantFrom(null, null, 'k', 'l', 'm'),
  partition: fc.constantFrom(undefined, undefined, undefined, 0, 1, 2),
  size: fc.constantFrom(10, 10, 10, 200, 400, 1_000, 2_000),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('publish' as const),
      burst: fc.array(published, { minLength: 1, maxLength: 30 }),
    }),
  },
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('answer' as const),
      which: fc.nat(20),
      answer: fc.constantFrom<SendOutcome[]>(
        'confirmed',
        'confirmed',
        'confirmed',
        'too-large',
        'refused',
        'unconfirmed',
        'unavailable',
        'unavailable',
        'unknown-topic',
        'foreign error',
      ),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 0, max: 2_000 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('break' as const),
      what: fc.constantFrom('openFailures' as const, 'metadataFailures' as const),
      failure: fc.constantFrom<KafkaFailure[]>('unavailable', 'unavailable', 'refused'),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('cancel' as const), which: fc.nat(100) }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'grow' } as const) },
);
const close: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('close' as const),
  limitMs: fc.integer({ min: 0, max: 3_000 }),
});

describe.each([
  ['not idempotent', false],
  ['idempotent', true],
])('Producer, %s, under random failures', (_, idempotent) => {
  it('settles every publish once, with the right outcome, in order, within its limits', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
        const model = new Model(idempotent);
        for (const one of steps) await model.run(one);
        await model.heal();
        model.checkEnd();
      }),
      { numRuns: 150 },
    );
  });

  it('settles every publish when it is closed at any moment', async () => {
    const cases = fc.tuple(fc.array(step, { maxLength: 40 }), close, fc.array(step, { maxLength: 6 }));
    await fc.assert(
      fc.asyncProperty(cases, async ([before, closing, after]) => {
        const model = new Model(idempotent);
        for (const one of [...before, closing, ...after]) await model.run(one);
        // No request gets a response: only the deadline of close() ends it.
        await model.bench.clock.advance(5_000);
        await model.bench.producer.close(0);
        model.checkEnd();
        expect(model.bench.clock.pendingTimers).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});
