import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const limitMs = 90_000;

const reasonsTold = {
  duplicate: ['placed before, so not sent a second time', 'paid before, so not charged a second time'],
  malformed: [
    'SyntaxError: Unterminated string',
    'SyntaxError: has a key named __proto__',
    'SyntaxError: nested deeper than',
  ],
  invalid: ['quantity must not be less than 1', 'card must be the last four digits'],
  unknown: ['NoHandlerError: no handler for pattern "order.teleported"'],
  failed: [
    'CardDeclinedError: the till declined the card ending in 0002',
    'OutOfStockError: the warehouse has no globe',
  ],
};

describe('the tour', () => {
  it(
    'gives each of the 1 000 lines one outcome and a reason, and ends by itself',
    async () => {
      const { code, stdout, stderr } = await npmStart();

      expect(stderr).toBe('');
      expect(code).toBe(0);
      const expected = countByRules();
      expect(countsIn(stdout)).toEqual(expected);
      expect(expected['total']).toBe(1_000);

      const { handled: _, total: __, ...notHandled } = expected;
      for (const [outcome, count] of Object.entries(notHandled)) {
        expect(rowsOf(outcome, stdout), outcome).toHaveLength(count);
      }
      for (const [outcome, reasons] of Object.entries(reasonsTold)) {
        for (const reason of reasons) expect(rowsOf(outcome, stdout).join('\n'), outcome).toContain(reason);
      }

      expect(stdout).toContain('2 x iron teapot would be 98.00 EUR');
      expect(stdout).toContain(
        'RemoteError with the code UNKNOWN_SKU: UnknownSkuError, the shop has never sold "MOON-DUST"',
      );
      // Colours and redrawing are for terminals.
      for (const control of ['\u001B', '\r']) expect(stdout).not.toContain(control);
      expect(stdout).toMatch(/^ *250 of 1 000\n *500 of 1 000\n *750 of 1 000\n *1 000 of 1 000$/m);
    },
    limitMs,
  );

  it(
    'says in one line which brokers there are',
    async () => {
      const { code, stdout, stderr } = await npmStart('--', '--broker', 'nonsense');

      expect(code).toBe(1);
      expect(stderr).toMatch(/^the broker "nonsense" is not available yet; known: memory\n$/);
      expect(stdout).not.toMatch(/^\s+at /m);
    },
    limitMs,
  );
});

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The tour as a user runs it, from the sources as they are now. What npm itself remarks is left out. */
function npmStart(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn('npm', ['start', ...args], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: limitMs - 5_000,
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', reject);
    child.on('close', (code) => {
      const stderr = Buffer.concat(err)
        .toString()
        .replace(/^npm .*\n/gm, '');
      resolve({ code, stdout: Buffer.concat(out).toString(), stderr });
    });
  });
}

/** The closing table. */
function countsIn(stdout: string): Record<string, number> {
  const rows = stdout.matchAll(
    /^ +(handled|duplicate|malformed|invalid|unknown|failed|total) +(\d[\d ]*)$/gm,
  );
  return Object.fromEntries([...rows].map(([, name, count]) => [name!, Number(count!.replaceAll(' ', ''))]));
}

function rowsOf(outcome: string, stdout: string): string[] {
  return stdout.split('\n').filter((row) => new RegExp(`^ +line +\\d+ +${outcome} .*\\S`).test(row));
}

/** What should become of the lines, by rules that share nothing with the tour. */
function countByRules(): Record<string, number> {
  const counts: Record<string, number> = {
    handled: 0,
    duplicate: 0,
    malformed: 0,
    invalid: 0,
    unknown: 0,
    failed: 0,
    total: 0,
  };
  const seen = new Set<string>();
  for (const line of readFileSync(`${root}sample/01-tour/orders.jsonl`, 'utf8').trimEnd().split('\n')) {
    const outcome = outcomeByRules(line, seen);
    seen.add(line);
    counts[outcome]! += 1;
    counts['total']! += 1;
  }
  return counts;
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
