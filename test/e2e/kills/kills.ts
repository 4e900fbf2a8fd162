import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { eventually } from '../../contract/app.js';
import type { Told, WorkerSettings } from './moments.js';

export const messages = 1_000;
export const kills = 3;

const root = fileURLToPath(new URL('../../../', import.meta.url));
const folder = `${root}node_modules/.stork-e2e/kills-${randomUUID()}`;

/** Compiles the worker once for the file that asks. */
export function useWorker(isSkipped: boolean): void {
  beforeAll(async () => {
    if (isSkipped) return;
    await build({
      root,
      configFile: false,
      logLevel: 'error',
      resolve: {
        alias: [
          { find: /^nestjs-stork$/, replacement: `${root}lib/index.ts` },
          { find: /^nestjs-stork\/(.+)$/, replacement: `${root}lib/$1/index.ts` },
        ],
      },
      build: {
        ssr: `${root}test/e2e/kills/worker.ts`,
        outDir: folder,
        target: 'node20',
        minify: false,
        emptyOutDir: false,
      },
    });
  }, 60_000);
  afterAll(() => rm(folder, { recursive: true, force: true }));
}

/** One life of a worker. */
export interface Life {
  readonly told: readonly Told[];
  readonly ended: Promise<readonly [number | null, NodeJS.Signals | null]>;
  end(): Promise<void>;
}

export function startWorker(settings: WorkerSettings): Life {
  const child = spawn(process.execPath, [`${folder}/worker.js`, JSON.stringify(settings)], {
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
  settings: Omit<WorkerSettings, 'dieAt'>,
  random: () => number,
  isDone: (lives: readonly Life[]) => Promise<boolean>,
): Promise<readonly Life[]> {
  const lives: Life[] = [];
  for (let kill = 0; kill < kills; kill++) {
    const life = startWorker({ ...settings, dieAt: 50 + Math.floor(random() * 200) });
    lives.push(life);
    const [, signal] = await life.ended;
    if (signal !== 'SIGKILL')
      throw new Error(`the worker ended by itself: ${JSON.stringify(life.told.at(-1))}`);
  }
  const last = startWorker({ ...settings, dieAt: undefined });
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
