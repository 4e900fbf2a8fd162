import { describe, expect, it } from 'vitest';
import { useOwnCheckout } from '../support/own-checkout.js';
import { countByRules, countsIn, ordersWithBusyTill, run, type Ended } from './tour-support.js';

const limitMs = 240_000;

const expectedReasons = {
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
  const checkout = useOwnCheckout();

  /** The tour as a user runs it, from the sources as they are now. */
  function npmStart(...args: readonly string[]): Promise<Ended> {
    return run('npm', ['start', ...args], { limitMs: limitMs - 5_000, cwd: checkout() }).ended;
  }

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
      for (const [outcome, reasons] of Object.entries(expectedReasons)) {
        for (const reason of reasons) expect(rowsOf(outcome, stdout).join('\n'), outcome).toContain(reason);
      }

      expect(stdout).toContain(`${ordersWithBusyTill()} orders were handled in a second or third attempt`);
      expect(stdout).toMatch(/counted 1 \d{3} received, \d+ retried, 48 dead letters/);
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
    'lists the known brokers in one line',
    async () => {
      const { code, stdout, stderr } = await npmStart('--', '--broker', 'nonsense');

      expect(code).toBe(1);
      expect(stderr).toMatch(
        /^the broker "nonsense" is not available yet; known: memory, kafka, rabbitmq\n$/,
      );
      expect(stdout).not.toMatch(/^\s+at /m);
    },
    limitMs,
  );
});

function rowsOf(outcome: string, stdout: string): string[] {
  return stdout.split('\n').filter((row) => new RegExp(`^ +line +\\d+ +${outcome} .*\\S`).test(row));
}
