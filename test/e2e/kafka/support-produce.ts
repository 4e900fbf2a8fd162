import type { INestMicroservice } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterAll, beforeAll, inject, onTestFinished } from 'vitest';
import {
  getClientToken,
  isStorkError,
  storkMicroservice,
  StorkModule,
  StorkService,
  type ConnectionState,
  type MessageOptions,
  type StorkClient,
} from 'nestjs-stork';
import { kafka, type KafkaOptions } from 'nestjs-stork/kafka';
import { systemClock, type StorkClock } from '../../../lib/core/runtime/clock.js';
import { STORK_CLOCK } from '../../../lib/nest/stork.constants.js';
import type { StoredRecord } from '../../support/kafka-topic-reader.js';
import { Foreign } from './kafka-app.js';

export const brokers = inject('kafkaBrokers');

/** An application that only publishes. */
export interface Sender {
  readonly app: INestMicroservice;
  readonly client: StorkClient;
  /** The connection states since the start, without repetitions. */
  readonly states: readonly ConnectionState['value'][];
  readonly connection: () => ConnectionState;
  readonly close: () => Promise<void>;
}

/** It is closed when the test ends. */
export async function startSender(
  options: Partial<KafkaOptions> = {},
  clock: StorkClock = systemClock,
): Promise<Sender> {
  const reconnect = { delayMs: 50, maxDelayMs: 500 };
  // On a busy machine a broker takes longer to start than a publish may wait by default.
  const publishTimeoutMs = 180_000;
  const transport = kafka({ brokers, reconnect, handlers: 'none', publishTimeoutMs, ...options });
  const testing = await Test.createTestingModule({
    imports: [
      StorkModule.forRoot({
        transports: { main: transport },
        retry: { maxRetries: 0 },
      }),
    ],
  })
    .overrideProvider(STORK_CLOCK)
    .useValue(clock)
    .compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  const client = app.get<StorkClient>(getClientToken('main'));
  const service = app.get(StorkService);
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => (closing ??= app.close());
  onTestFinished(close);
  await app.listen();
  const states: ConnectionState['value'][] = [];
  await client.connect();
  client.status.subscribe((state) => {
    if (states.at(-1) !== state) states.push(state);
  });
  return { app, client, states, connection: () => service.state()['main']!.connection, close };
}

/** One kafkajs client for all tests of a file, on a broker that `open` starts or that is running. */
export function useBeside(open: () => Promise<readonly string[]> | readonly string[]): () => Foreign {
  let foreign: Foreign | undefined;
  beforeAll(async () => {
    if (brokers === undefined) return;
    foreign = new Foreign(await open());
    await foreign.open();
  }, 180_000);
  afterAll(() => foreign?.close());
  return () => foreign!;
}

/** The code of a stork error, otherwise the message of the error. */
export function codeOf(error: unknown): string {
  return isStorkError(error) ? error.code : String(error);
}

/** By outcome, e.g. `ok` or a code, the indexes in the list that had it. */
export async function outcomesOf(
  sent: readonly Promise<void>[],
): Promise<Readonly<Record<string, readonly number[]>>> {
  const places: Record<string, number[]> = {};
  const outcomes = await Promise.all(sent.map((one) => one.then(() => 'ok', codeOf)));
  outcomes.forEach((outcome, i) => (places[outcome] ??= []).push(i));
  return places;
}

/** The indexes from 0 to `count` − 1 that the predicate selects. */
export function numbers(count: number, isWanted: (n: number) => boolean = () => true): readonly number[] {
  return Array.from({ length: count }, (_, n) => n).filter(isWanted);
}

export const bodyOf = ({ value }: StoredRecord): string => value?.toString() ?? '';

/** The outcome of a published number. */
interface Published {
  readonly key: string;
  /** Undefined while the publish is pending. */
  outcome?: string;
}

/** Publishes the numbers from 0 on and records the outcome of each. */
export class PublishLog {
  readonly #client: StorkClient;
  readonly #topic: string;
  readonly #options: (n: number) => MessageOptions;
  readonly #all: Published[] = [];
  readonly #under = new Set<Promise<void>>();
  /**
   * Of `performance.now()`, when the last one was confirmed and how long the longest wait for the next was.
   */
  #confirmedAt = performance.now();
  longestGapMs = 0;

  constructor(
    client: StorkClient,
    topic: string,
    options: (n: number) => MessageOptions = (n) => ({ key: `key ${n % 7}` }),
  ) {
    this.#client = client;
    this.#topic = topic;
    this.#options = options;
  }

  /** Publishes the next number. Resolves when its outcome is known, whatever it is. */
  publish(): Promise<void> {
    const n = this.#all.length;
    const options = this.#options(n);
    const published: Published = { key: String(options.key ?? options.partition) };
    this.#all.push(published);
    const known = this.#client.publish(this.#topic, n, options).then(
      () => {
        published.outcome = 'confirmed';
        const now = performance.now();
        this.longestGapMs = Math.max(this.longestGapMs, now - this.#confirmedAt);
        this.#confirmedAt = now;
      },
      (error: unknown) => {
        published.outcome = codeOf(error);
      },
    );
    this.#under.add(known);
    void known.then(() => this.#under.delete(known));
    return known;
  }

  burst(count: number): Promise<void> {
    for (let i = 0; i < count; i++) void this.publish();
    return this.known();
  }

  /**
   * Publishes with that many in flight until the returned function is called, which resolves when every
   * outcome is known.
   */
  load(atOnce: number): { stop(): Promise<void> } {
    this.#confirmedAt = performance.now();
    this.longestGapMs = 0;
    const stop = new AbortController();
    const go = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        await this.publish();
        // Yields to the event loop: a broker on the same machine responds within one turn.
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const all = Array.from({ length: atOnce }, go);
    return {
      stop: async () => {
        stop.abort();
        await Promise.all(all);
      },
    };
  }

  async known(): Promise<void> {
    await Promise.all(this.#under);
  }

  get confirmed(): readonly number[] {
    return this.#where('confirmed');
  }

  get count(): number {
    return this.#all.length;
  }

  /** How often each outcome came. */
  get outcomes(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { outcome } of this.#all) counts[String(outcome)] = (counts[String(outcome)] ?? 0) + 1;
    return counts;
  }

  /** Outcomes that are none of these. */
  otherOutcomes(...expected: readonly string[]): readonly string[] {
    return Object.keys(this.outcomes).filter((outcome) => !expected.includes(outcome));
  }

  outcomeOf(n: number): string | undefined {
    return this.#all[n]!.outcome;
  }

  /** Contradictions between the outcomes and the log; there should be none. */
  /**
   * @param repeats how many copies of a record may follow its first: without `idempotent`, a leader that
   * moves while it writes says only that it is the leader no more, and what is sent again then may have been
   * written
   */
  lies(records: readonly StoredRecord[], repeats = 0): readonly string[] {
    const lies: string[] = [];
    const written = new Map<number, number>();
    for (const record of records) {
      const n = Number(bodyOf(record));
      written.set(n, (written.get(n) ?? 0) + 1);
    }
    this.#all.forEach(({ outcome }, n) => {
      const copies = written.get(n) ?? 0;
      if (outcome === undefined) lies.push(`${n}: nothing was said of it`);
      else if (outcome === 'confirmed' && (copies < 1 || copies > 1 + repeats))
        lies.push(`${n}: confirmed, and ${copies} in the log`);
      else if (outcome === 'PUBLISH_UNCONFIRMED' && copies > 1 + repeats)
        lies.push(`${n}: written ${copies} times`);
      else if (outcome !== 'confirmed' && !/^[A-Z_]+$/.test(outcome))
        lies.push(`${n}: no named error, but ${outcome}`);
      else if (!['confirmed', 'PUBLISH_UNCONFIRMED'].includes(outcome) && copies > 0)
        lies.push(`${n}: ${outcome}, and ${copies} in the log`);
    });
    return [...lies, ...this.#overtakings(firstCopies(records))];
  }

  #overtakings(records: readonly StoredRecord[]): readonly string[] {
    const last = new Map<string, number>();
    const overtakings: string[] = [];
    for (const record of records) {
      const n = Number(bodyOf(record));
      const { key, outcome } = this.#all[n]!;
      if (outcome !== 'confirmed') continue;
      if (n < (last.get(key) ?? -1)) overtakings.push(`${n}: behind ${last.get(key)} of the same key`);
      last.set(key, n);
    }
    return overtakings;
  }

  #where(outcome: string): readonly number[] {
    return this.#all.flatMap((one, n) => (one.outcome === outcome ? [n] : []));
  }
}

/** Each number's first record, in the order of its partition. */
function firstCopies(records: readonly StoredRecord[]): readonly StoredRecord[] {
  const seen = new Set<string>();
  return records
    .toSorted((a, b) => a.partition - b.partition || a.offset - b.offset)
    .filter((record) => !seen.has(bodyOf(record)) && seen.add(bodyOf(record)));
}
