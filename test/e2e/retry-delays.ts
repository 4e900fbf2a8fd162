import { Controller, type Type } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { expect } from 'vitest';
import { Retry, StorkContext, type StorkClient } from 'nestjs-stork';
import { Seen } from '../contract/app.js';

interface Job {
  readonly n: number;
  /** Runs that fail before one succeeds. */
  readonly fails: number;
  readonly sentAt: number;
}

interface JobRun extends Job {
  readonly attempt: number;
  readonly at: number;
}

const delays = [1_000, 60_000] as const;
const slow = 5;
const patienceMs = 90_000;

/**
 * A second and a minute of one handler at once: for a whole minute messages go through both delays and past them. Each comes back in its
 * time, and what has not failed waits for nobody.
 */
export async function checkDelaysAtOnce(
  pattern: string,
  start: (controller: Type) => Promise<{ readonly client: StorkClient }>,
): Promise<void> {
  const runs = new Seen<JobRun>();
  @Controller()
  class Jobs {
    @EventPattern<string>(pattern)
    @Retry({ maxRetries: 0, redeliverDelaysMs: delays })
    run(@Payload() job: Job, @Ctx() { attempt }: StorkContext): void {
      runs.add({ ...job, attempt, at: Date.now() });
      if (attempt <= job.fails) throw new Error('not yet');
    }
  }
  const { client } = await start(Jobs);
  let n = 0;
  const send = (fails: number): Promise<void> =>
    client.publish(pattern, { n: n++, fails, sentAt: Date.now() } satisfies Job, { key: `k${n % 3}` });
  for (let i = 0; i < slow; i++) await send(2);
  const lastOf = ({ fails, attempt }: JobRun): boolean => fails === 2 && attempt === 3;
  const until = Date.now() + patienceMs;
  while (runs.all.filter(lastOf).length < slow) {
    expect(Date.now()).toBeLessThan(until);
    await Promise.all([send(0), send(1)]);
    // The pace of the senders, not a wait for anything.
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const sent = n;
  await expect
    .poll(() => runs.all.filter(({ fails, attempt }) => attempt === fails + 1).length, { timeout: 10_000 })
    .toBe(sent);
  const chains = new Map<number, JobRun[]>();
  for (const run of runs.all) chains.set(run.n, [...(chains.get(run.n) ?? []), run]);
  for (const chain of chains.values()) {
    expect(chain.map(({ attempt }) => attempt)).toEqual(Array.from(chain, (_, i) => i + 1));
    expect(chain[0]!.at - chain[0]!.sentAt).toBeLessThan(1_000);
    for (const [i, { at }] of chain.entries()) {
      if (i === 0) continue;
      const gap = at - chain[i - 1]!.at;
      expect(gap).toBeGreaterThanOrEqual(delays[i - 1]!);
      expect(gap).toBeLessThan(delays[i - 1]! + 1_000);
    }
  }
  expect(chains.size).toBe(sent);
}
