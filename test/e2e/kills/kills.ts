import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { TestContext } from 'vitest';
import { eventually } from '../../contract/app.js';
import type { WorkerEvent, WorkerSettings } from './moments.js';

export const messages = 1_000;
export const kills = 3;

/** One process of a worker. */
export interface Life {
  readonly reported: readonly WorkerEvent[];
  readonly ended: Promise<readonly [number | null, NodeJS.Signals | null]>;
  end(): Promise<void>;
}

/**
 * The hooks of one test: for concurrent tests, the global hook of vitest belongs to the last started test.
 */
export type Hooks = Pick<TestContext, 'onTestFinished'>;

/** A program that kills itself, and its settings. */
export interface Dying {
  /** The compiled `worker.ts`. */
  readonly file: string;
  readonly settings: Omit<WorkerSettings, 'dieAt'>;
  readonly random: () => number;
  /** Called after each kill, before the next worker starts. */
  readonly killed?: (() => Promise<void>) | undefined;
}

function startWorker(file: string, settings: WorkerSettings, { onTestFinished }: Hooks): Life {
  const child = spawn(process.execPath, [file, JSON.stringify(settings)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const reported: WorkerEvent[] = [];
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => reported.push(JSON.parse(line) as WorkerEvent));
  const ended = Promise.all([once(child, 'exit'), once(lines, 'close')]).then(
    ([[code, signal]]) => [code as number | null, signal as NodeJS.Signals | null] as const,
  );
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return {
    reported,
    ended,
    end: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/**
 * Starts workers one after another that kill themselves at the moment, and a last one that runs until
 * `isDone`.
 */
export async function liveAndDie(
  { file, settings, random, killed }: Dying,
  hooks: Hooks,
  isDone: (lives: readonly Life[]) => Promise<boolean>,
): Promise<readonly Life[]> {
  const lives: Life[] = [];
  for (let kill = 0; kill < kills; kill++) {
    const life = startWorker(file, { ...settings, dieAt: 230 + Math.floor(random() * 90) }, hooks);
    lives.push(life);
    const [, signal] = await life.ended;
    if (signal !== 'SIGKILL')
      throw new Error(`the worker ended by itself: ${JSON.stringify(life.reported.at(-1))}`);
    await killed?.();
  }
  const last = startWorker(file, { ...settings, dieAt: undefined }, hooks);
  lives.push(last);
  await eventually(
    async () => {
      // Polling costs the broker time.
      await new Promise((resolve) => setTimeout(resolve, 200));
      return (await isDone(lives)) ? true : undefined;
    },
    'the last worker to finish',
    120_000,
  );
  await last.end();
  return lives;
}

/** How often an event of that kind was reported for each message. */
export function countsOf(lives: readonly Life[], event: WorkerEvent['event']): ReadonlyMap<number, number> {
  const counts = new Map<number, number>();
  for (const { reported } of lives) {
    for (const { event: kind, n } of reported) if (kind === event) counts.set(n!, (counts.get(n!) ?? 0) + 1);
  }
  return counts;
}

/**
 * Repeated events of a message without an explanation: the earlier worker was not killed, or its result was
 * settled before the kill.
 *
 * @param wasSettled whether the broker had the settlement of the message when that worker was killed
 */
export function unexplained(
  lives: readonly Life[],
  event: WorkerEvent['event'],
  wasSettled: (n: number, life: number) => boolean,
): readonly string[] {
  const seen = new Map<number, number>();
  const wrong: string[] = [];
  for (const [life, { reported }] of lives.entries()) {
    for (const { event: what, n } of reported) {
      if (what !== event) continue;
      const before = seen.get(n!);
      seen.set(n!, life);
      if (before === undefined) continue;
      if (before === life) wrong.push(`${n}: twice in life ${life}`);
      else if (wasSettled(n!, before))
        wrong.push(`${n}: in life ${life}, though settled since life ${before}`);
    }
  }
  return wrong;
}

export function repeated(counts: ReadonlyMap<number, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count - 1, 0);
}

export function missing(seen: { has(n: number): boolean }): readonly number[] {
  return Array.from({ length: messages }, (_, n) => n).filter((n) => !seen.has(n));
}
