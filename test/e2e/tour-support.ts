import { spawn, type ChildProcess, type ChildProcessByStdio } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

export interface Ended {
  /** Null after a signal. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves as soon as the output contains `text`; rejects if it ends without. */
  shows(this: void, text: string): Promise<void>;
}

export interface RunOptions {
  readonly limitMs: number;
  readonly env?: Readonly<Record<string, string>>;
  /** @defaultValue the project's folder */
  readonly cwd?: string;
  /** Whether the program may be sent messages, `child.send()`. @defaultValue false */
  readonly hasChannel?: boolean;
}

export function run(command: string, args: readonly string[], options: RunOptions): Running {
  const { limitMs, env = {}, cwd = root, hasChannel = false } = options;
  // Both outputs are pipes, which TypeScript knows of shorter lists alone.
  const child = spawn(command, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe', hasChannel ? 'ipc' : 'ignore'],
    timeout: limitMs,
    env: { ...process.env, ...env },
  }) as ChildProcessByStdio<null, Readable, Readable>;
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  const stdout = (): string => Buffer.concat(out).toString();
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      // Messages of npm itself are removed.
      const stderr = Buffer.concat(err)
        .toString()
        .replace(/^npm .*\n/gm, '');
      resolve({ code, stdout: stdout(), stderr });
    });
  });
  const shows = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        if (stdout().includes(text)) resolve();
      };
      child.stdout.on('data', check);
      ended.then(() => reject(new Error(`ended without "${text}": ${stdout()}`)), reject);
      check();
    });
  return { child, ended, shows };
}

/**
 * Arguments for Node under which a program kills itself as soon as it has printed `text`: from outside that
 * may be too late.
 */
export function killingAt(text: string, folder: string): readonly string[] {
  const preload = join(folder, 'kill.mjs');
  writeFileSync(
    preload,
    `const write = process.stdout.write.bind(process.stdout);
process.stdout.write = (chunk, ...rest) => {
  const isRoomLeft = write(chunk, ...rest);
  if (String(chunk).includes(${JSON.stringify(text)})) process.kill(process.pid, 'SIGKILL');
  return isRoomLeft;
};
`,
  );
  return ['--import', preload];
}

/** The closing table. */
export function countsIn(stdout: string): Record<string, number> {
  const rows = stdout.matchAll(
    /^ +(handled|duplicate|malformed|invalid|unknown|failed|total) +(\d[\d ]*)$/gm,
  );
  return Object.fromEntries([...rows].map(([, name, count]) => [name!, Number(count!.replaceAll(' ', ''))]));
}

/** The outcome of each line in the file of a `--state`; undefined where it has none. */
export function outcomesIn(path: string): (string | undefined)[] {
  const outcomes = Array.from({ length: outcomesByRules().length }, (): string | undefined => undefined);
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  for (const row of text.split('\n').filter((row) => row !== '')) {
    const { line, outcome } = JSON.parse(row) as { line: number; outcome: string };
    outcomes[line - 1] = outcome;
  }
  return outcomes;
}

/** The expected outcomes of the lines, by rules that are independent of the tour. */
export function countByRules(): Record<string, number> {
  const counts: Record<string, number> = {
    handled: 0,
    duplicate: 0,
    malformed: 0,
    invalid: 0,
    unknown: 0,
    failed: 0,
    total: 0,
  };
  for (const outcome of outcomesByRules()) {
    counts[outcome]! += 1;
    counts['total']! += 1;
  }
  return counts;
}

/** The same for each line. */
export function outcomesByRules(): string[] {
  const seen = new Set<string>();
  const lines = readFileSync(`${root}sample/01-tour/orders.jsonl`, 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const outcome = outcomeByRules(line, seen);
    seen.add(line);
    return outcome;
  });
}

/** Every thirtieth order, where it was paid. */
export function ordersWithBusyTill(): number {
  const lines = readFileSync(`${root}sample/01-tour/orders.jsonl`, 'utf8').trimEnd().split('\n');
  const outcomes = outcomesByRules();
  const handled = lines.filter((_, i) => outcomes[i] === 'handled').map((line) => parsed(line)!);
  return handled.filter(
    ({ type, order }) => type === 'order.paid' && Number(String(order).slice(3)) % 30 === 0,
  ).length;
}

function outcomeByRules(line: string, seen: ReadonlySet<string>): string {
  const event = parsed(line);
  if (event === undefined || line.includes('"__proto__":') || line.includes('['.repeat(1_001)))
    return 'malformed';
  const { type, customer, sku, quantity, cents, card, at } = event;
  if (type !== 'order.created' && type !== 'order.paid') return 'unknown';
  const isWhole = (value: unknown, least: number): boolean =>
    Number.isInteger(value) && Number(value) >= least;
  const isOrder =
    typeof customer === 'string' && customer !== '' && typeof sku === 'string' && isWhole(quantity, 1);
  const isPayment = typeof card === 'string' && /^\d{4}$/.test(card);
  const isDated = typeof at === 'string' && !Number.isNaN(Date.parse(at));
  if (!isWhole(cents, 0) || !isDated || !(type === 'order.created' ? isOrder : isPayment)) return 'invalid';
  if (seen.has(line)) return 'duplicate';
  return sku === 'GLOBE-MOON' || card === '0002' ? 'failed' : 'handled';
}

function parsed(line: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
