import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, expect, it, onTestFinished } from 'vitest';
import { seeded } from '../../support/seeded.js';
import { useWorkerFile } from '../../support/worker-file.js';
import { brokers, eventually, later, range, uniqueName, useRaw } from './support.js';
import type { Job, MemberEvent, MemberSettings } from './rebalance-member.js';

/** `STORK_CHURN_MS=120000` for the long version. */
const durationMs = Number(process.env['STORK_CHURN_MS'] ?? 30_000);
const seed = Number(process.env['STORK_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
const partitions = 6;
const keys = 40;

interface Attempt {
  readonly member: Member;
  readonly start: bigint;
  end: bigint | undefined;
}

/** A consumer in a process of its own. */
class Member {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  /** When it was signalled to end, and by which signal. */
  stopped: { readonly signal: 'SIGTERM' | 'SIGKILL'; readonly at: bigint } | undefined;
  isReady = false;
  isClosed = false;

  constructor(file: string, settings: MemberSettings, heard: (member: Member, event: MemberEvent) => void) {
    this.child = spawn(process.execPath, [file, JSON.stringify(settings)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: this.child.stdout! });
    lines.on('line', (line) => {
      const event = JSON.parse(line) as MemberEvent;
      if (event.event === 'ready') this.isReady = true;
      if (event.event === 'closed') this.isClosed = true;
      heard(this, event);
    });
    this.ended = Promise.all([once(this.child, 'exit'), once(lines, 'close')]);
  }

  stop(signal: 'SIGTERM' | 'SIGKILL'): void {
    this.stopped = { signal, at: process.hrtime.bigint() };
    this.child.kill(signal);
  }
}

interface Sent {
  readonly key: string;
  readonly n: number;
}

/** Records sent messages and the members' reports, and checks the invariants of both. */
class Oracle {
  readonly #sent = new Map<string, Sent>();
  readonly #attempts = new Map<string, Attempt[]>();
  readonly #samples: { readonly at: bigint; readonly partition: number; readonly committed: number }[] = [];

  sent(partition: number, offset: number, record: Sent): void {
    this.#sent.set(`${partition}/${offset}`, record);
  }

  get count(): number {
    return this.#sent.size;
  }

  readonly heard = (member: Member, event: MemberEvent): void => {
    if (event.event !== 'start' && event.event !== 'end') return;
    const place = `${event.partition}/${event.offset}`;
    const attempts = this.#attempts.get(place) ?? [];
    this.#attempts.set(place, attempts);
    if (event.event === 'start') attempts.push({ member, start: BigInt(event.at), end: undefined });
    else attempts.findLast((attempt) => attempt.member === member)!.end = BigInt(event.at);
  };

  sampled(committed: ReadonlyMap<number, number>): void {
    const at = process.hrtime.bigint();
    for (const [partition, offset] of committed) this.#samples.push({ at, partition, committed: offset });
  }

  lost(): readonly string[] {
    return [...this.#sent.keys()].filter(
      (place) => !(this.#attempts.get(place) ?? []).some(({ end }) => end !== undefined),
    );
  }

  /** Records whose first attempt began before that of an earlier record of their key. */
  overtaken(): readonly string[] {
    const last = new Map<string, { readonly n: number; readonly start: bigint }>();
    const wrong: string[] = [];
    const all = [...this.#sent].toSorted(([, a], [, b]) => a.n - b.n);
    for (const [place, { key, n }] of all) {
      const starts = (this.#attempts.get(place) ?? []).map(({ start }) => start);
      if (starts.length === 0) continue;
      const first = starts.reduce((a, b) => (b < a ? b : a));
      const before = last.get(key);
      if (before !== undefined && before.start > first)
        wrong.push(`${place} (${key}): ${n} before ${before.n}`);
      last.set(key, { n, start: first });
    }
    return wrong;
  }

  /** Repeated attempts without an explanation, and the number of explained ones. */
  repeated(): { readonly unexplained: readonly string[]; readonly explained: number } {
    const unexplained: string[] = [];
    let explained = 0;
    for (const [place, attempts] of this.#attempts) {
      const sorted = attempts.toSorted((a, b) => (a.start < b.start ? -1 : 1));
      for (const [i, later] of sorted.slice(1).entries()) {
        const earlier = sorted[i]!;
        const { stopped } = earlier.member;
        const wasCommitted = this.#wasCommitted(place, later.start);
        if (stopped?.signal === 'SIGKILL' && !wasCommitted) explained++;
        else {
          const said = wasCommitted ? 'committed by then' : 'not committed';
          unexplained.push(`${place}: ${said}, member ${stopped?.signal ?? 'alive'} at ${stopped?.at}`);
        }
      }
    }
    return { unexplained, explained };
  }

  #wasCommitted(place: string, by: bigint): boolean {
    const [partition, offset] = place.split('/').map(Number);
    return this.#samples.some(
      (sample) => sample.at < by && sample.partition === partition && sample.committed > offset!,
    );
  }

  /** Commits that were ahead of the settled records. */
  ahead(): readonly string[] {
    const settled = this.#settledBelow();
    return this.#samples
      .filter(({ at, partition, committed }) => (settled.get(partition)?.[committed] ?? 0n) > at)
      .map(({ at, partition, committed }) => `${partition} under ${committed} at ${at}`);
  }

  /** For each partition and offset, when all records below it were settled. */
  #settledBelow(): ReadonlyMap<number, readonly bigint[]> {
    const never = 2n ** 63n;
    const ends = new Map<number, bigint[]>();
    for (const place of this.#sent.keys()) {
      const [partition, offset] = place.split('/').map(Number);
      const times = (this.#attempts.get(place) ?? []).flatMap(({ end }) => end ?? []);
      const first = times.reduce((a, b) => (b < a ? b : a), never);
      const ofPartition = ends.get(partition!) ?? [];
      ends.set(partition!, ofPartition);
      ofPartition[offset!] = first;
    }
    return new Map(
      [...ends].map(([partition, ofPartition]) => {
        const below = [0n];
        let latest = 0n;
        for (const end of ofPartition) {
          if (end > latest) latest = end;
          below.push(latest);
        }
        return [partition, below];
      }),
    );
  }

  get samples(): number {
    return this.#samples.length;
  }
}

describe.skipIf(brokers === undefined)('Kafka: a group whose members come and go', () => {
  const raw = useRaw();
  const file = useWorkerFile('test/e2e/kafka/rebalance-member.ts', brokers === undefined);

  it(
    `loses nothing, keeps the order of keys, and repeats only uncommitted records, seed ${seed}`,
    async () => {
      const random = seeded(seed);
      const [topic, group] = [await raw().topic(partitions), uniqueName()];
      const settings: MemberSettings = { brokers: brokers!, group, topic };
      const oracle = new Oracle();
      const members: Member[] = [];
      const alive = (): readonly Member[] => members.filter(({ stopped }) => stopped === undefined);
      const join = (): void => void members.push(new Member(file, settings, oracle.heard));
      onTestFinished(async () => {
        for (const member of alive()) member.stop('SIGKILL');
        await Promise.all(members.map(({ ended }) => ended));
      });

      const allReady = (): Promise<true> =>
        eventually(() => (alive().every(({ isReady }) => isReady) ? true : undefined), 'members', 60_000);
      for (const _ of range(0, 3)) join();
      await allReady();
      const until = Date.now() + durationMs;
      const producing = (async () => {
        for (let n = 0; Date.now() < until;) {
          const batch = range(n, 10 + Math.floor(random() * 20)).map((n) => {
            const key = `k${Math.floor(random() * keys)}`;
            const job: Job = { n, takesMs: Math.floor(random() * 20) };
            return { n, key, partition: Number(key.slice(1)) % partitions, value: JSON.stringify(job) };
          });
          n += batch.length;
          const written = await raw().producer.send({ topic, messages: batch });
          const next = new Map(written.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]));
          for (const { n, key, partition } of batch) {
            const offset = next.get(partition)!;
            next.set(partition, offset + 1);
            oracle.sent(partition, offset, { key, n });
          }
          await later(50);
        }
      })();
      const over = new AbortController();
      const sampling = (async () => {
        while (!over.signal.aborted) {
          oracle.sampled(await raw().committed(group, topic));
          await later(100);
        }
      })();
      const counts = { SIGTERM: 0, SIGKILL: 0, join: 3 };
      while (Date.now() < until) {
        await later(500 + random() * 2_500);
        const ready = alive().filter(({ isReady }) => isReady);
        const dice = random();
        if (alive().length < 3 && dice < 0.6) {
          join();
          counts.join++;
        } else if (ready.length > 1) {
          const signal = dice < 0.8 ? 'SIGTERM' : 'SIGKILL';
          ready[Math.floor(random() * ready.length)]!.stop(signal);
          counts[signal]++;
        }
      }
      await producing;
      await eventually(
        async () => ((await raw().lag(group, topic)) === 0 ? true : undefined),
        'the end of the lag',
        60_000,
      );
      over.abort();
      await sampling;
      // A process that has just been started does not handle signals yet.
      await allReady();
      for (const member of alive()) member.stop('SIGTERM');
      await Promise.all(members.map(({ ended }) => ended));

      const { unexplained, explained } = oracle.repeated();
      console.log(
        `seed ${seed}: ${oracle.count} records, ${counts.join} joined, ${counts.SIGTERM} stopped, ` +
          `${counts.SIGKILL} killed, ${explained} attempts repeated, ${oracle.samples} commits sampled`,
      );
      const broken = {
        lost: oracle.lost(),
        overtaken: oracle.overtaken(),
        committedBeforeSettled: oracle.ahead(),
        repeated: unexplained,
      };
      expect(broken).toEqual({ lost: [], overtaken: [], committedBeforeSettled: [], repeated: [] });
      const stopped = members.filter((member) => member.stopped?.signal === 'SIGTERM');
      expect(stopped.filter(({ isClosed }) => !isClosed)).toEqual([]);
    },
    durationMs + 240_000,
  );
});
