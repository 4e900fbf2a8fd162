import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { TestContext } from 'vitest';
import { eventually } from '../../contract/app.js';
import type { Told, WorkerSettings } from './moments.js';

export const messages = 1_000;
export const kills = 3;

/** One life of a worker. */
export interface Life {
  readonly told: readonly Told[];
  readonly ended: Promise<readonly [number | null, NodeJS.Signals | null]>;
  end(): Promise<void>;
}

/** What runs at the same time must say whose it is: the hook of `vitest` itself is of whichever test came last. */
export type Hooks = Pick<TestContext, 'onTestFinished'>;

/** A program that dies, and how. */
export interface Dying {
  /** Of `worker.ts`, compiled. */
  readonly file: string;
  readonly settings: Omit<WorkerSettings, 'dieAt'>;
  readonly random: () => number;
}

function startWorker(file: string, settings: WorkerSettings, { onTestFinished }: Hooks): Life {
  const child = spawn(process.execPath, [file, JSON.stringify(settings)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const told: Told[] = [];
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => told.push(JSON.parse(line) as Told));
  const ended = Promise.all([once(child, 'exit'), once(lines, 'close')]).then(
    ([[code, signal]]) => [code as number | null, signal as NodeJS.Signals | null] as const,
  );
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return {
    told,
    ended,
    end: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Lets workers die at the moment, one after another, and the last one live until all is done. */
export async function liveAndDie(
  { file, settings, random }: Dying,
  hooks: Hooks,
  isDone: (lives: readonly Life[]) => Promise<boolean>,
): Promise<readonly Life[]> {
  const lives: Life[] = [];
  for (let kill = 0; kill < kills; kill++) {
    const life = startWorker(file, { ...settings, dieAt: 50 + Math.floor(random() * 200) }, hooks);
    lives.push(life);
    const [, signal] = await life.ended;
    if (signal !== 'SIGKILL')
      throw new Error(`the worker ended by itself: ${JSON.stringify(life.told.at(-1))}`);
  }
  const last = startWorker(file, { ...settings, dieAt: undefined }, hooks);
  lives.push(last);
  await eventually(
    async () => {
      // Asking is work for the broker too.
      await new Promise((resolve) => setTimeout(resolve, 200));
      return (await isDone(lives)) ? true : undefined;
    },
    'the last worker to be done',
    60_000,
  );
  await last.end();
  return lives;
}

/** How often each message has come to an end of that kind. */
export function runsOf(lives: readonly Life[], event: Told['event']): ReadonlyMap<number, number> {
  const runs = new Map<number, number>();
  for (const { told } of lives) {
    for (const { event: told1, n } of told) if (told1 === event) runs.set(n!, (runs.get(n!) ?? 0) + 1);
  }
  return runs;
}

/** Repeated ends of a message of which the earlier one is not explained: its worker was killed less than `windowMs` later. */
export function unexplained(
  lives: readonly Life[],
  event: Told['event'],
  windowMs: number,
): readonly string[] {
  const killedAt = lives.map(({ told }) => told.find(({ event: what }) => what === 'dying')?.at);
  const seen = new Map<number, { readonly life: number; readonly at: number }>();
  const wrong: string[] = [];
  for (const [life, { told }] of lives.entries()) {
    for (const { event: what, n, at } of told) {
      if (what !== event) continue;
      const before = seen.get(n!);
      seen.set(n!, { life, at });
      if (before === undefined) continue;
      const died = killedAt[before.life];
      const isExplained = before.life !== life && died !== undefined && before.at > died - windowMs;
      if (!isExplained)
        wrong.push(`${n}: ended at ${before.at} in life ${before.life}, which was killed at ${died}`);
    }
  }
  return wrong;
}

export function repeated(runs: ReadonlyMap<number, number>): number {
  return [...runs.values()].reduce((sum, count) => sum + count - 1, 0);
}

export function missing(seen: { has(n: number): boolean }): readonly number[] {
  return Array.from({ length: messages }, (_, n) => n).filter((n) => !seen.has(n));
}
