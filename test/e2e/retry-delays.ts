import { Controller, type Type } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { expect } from 'vitest';
import { Retry, StorkContext, type StorkClient } from 'nestjs-stork';
import { Seen } from '../contract/app.js';

interface Job {
  readonly n: number;
  /** Attempts that fail before one succeeds. */
  readonly fails: number;
  readonly sentAt: number;
}

interface JobAttempt extends Job {
  readonly attempt: number;
  readonly at: number;
}

const delays = [1_000, 60_000] as const;
/** Sent over twenty seconds, so that a short load peak of the machine does not affect all of them. */
const slow = 40;
const sendLimitMs = 120_000;
/** The guaranteed lateness. */
const lateMs = 1_000;
/** Tolerance for a busy machine; far less than the long delay that could block a message. */
const blockedMs = 15_000;

/**
 * Delays of a second and of a minute of one handler at once: for a whole minute messages pass both delays or
 * none. Each is redelivered in time, and messages that have not failed do not wait.
 */
export async function checkDelaysAtOnce(
  pattern: string,
  start: (controller: Type) => Promise<{ readonly client: StorkClient }>,
): Promise<void> {
  const attempts = new Seen<JobAttempt>();
  @Controller()
  class Jobs {
    @EventPattern<string>(pattern)
    @Retry({ maxRetries: 0, redeliverDelaysMs: delays })
    run(@Payload() job: Job, @Ctx() { attempt }: StorkContext): void {
      attempts.add({ ...job, attempt, at: Date.now() });
      if (attempt <= job.fails) throw new Error('not yet');
    }
  }
  const { client } = await start(Jobs);
  let n = 0;
  const send = (fails: number): Promise<void> =>
    client.publish(pattern, { n: n++, fails, sentAt: Date.now() } satisfies Job, { key: `k${n % 3}` });
  const lastOf = ({ fails, attempt }: JobAttempt): boolean => fails === 2 && attempt === 3;
  const until = Date.now() + sendLimitMs;
  for (let round = 0; attempts.all.filter(lastOf).length < slow; round++) {
    expect(Date.now()).toBeLessThan(until);
    await Promise.all([send(0), send(1), ...(round < slow ? [send(2)] : [])]);
    // Limits the rate of the publishes.
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const sent = n;
  await expect
    .poll(() => attempts.all.filter(({ fails, attempt }) => attempt === fails + 1).length)
    .toBe(sent);
  const chains = new Map<number, JobAttempt[]>();
  for (const one of attempts.all) chains.set(one.n, [...(chains.get(one.n) ?? []), one]);
  for (const chain of chains.values())
    expect(chain.map(({ attempt }) => attempt)).toEqual(Array.from(chain, (_, i) => i + 1));
  expect(chains.size).toBe(sent);
  for (const [i, delayMs] of [0, ...delays].entries())
    expectInTime(
      `after ${delayMs} ms`,
      [...chains.values()].flatMap((chain) => latenessOf(chain, i, delayMs)),
    );
}

/** Lateness of the attempt with that index, if there is one. */
function latenessOf(chain: readonly JobAttempt[], i: number, delayMs: number): readonly number[] {
  const attempt = chain[i];
  if (attempt === undefined) return [];
  return [attempt.at - (chain[i - 1]?.at ?? attempt.sentAt) - delayMs];
}

/**
 * None early, none blocked; and three of four in time: the fourth may have met a load peak of the machine.
 */
function expectInTime(what: string, lateness: readonly number[]): void {
  const sorted = lateness.toSorted((a, b) => a - b);
  const message = `${what}: ${sorted.join(', ')} ms late`;
  expect(sorted.length, message).toBeGreaterThanOrEqual(slow);
  expect(sorted[0], message).toBeGreaterThanOrEqual(0);
  expect(sorted[Math.floor(sorted.length * 0.75)], message).toBeLessThan(lateMs);
  expect(sorted.at(-1), message).toBeLessThan(blockedMs);
}
