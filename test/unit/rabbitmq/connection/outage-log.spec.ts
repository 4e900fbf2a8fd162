import { expect, it } from 'vitest';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { OutageLog } from '../../../../lib/rabbitmq/connection/outage-log.js';

function newBench() {
  const clock = new VirtualClock();
  const lines: string[] = [];
  const logger = {
    log: (line: string) => void lines.push(`log ${line}`),
    warn: (line: string) => void lines.push(`warn ${line}`),
    error: (line: string) => void lines.push(`error ${line}`),
    debug: () => {},
  };
  return { clock, lines, log: new OutageLog({ clock, logger }) };
}

it('logs each reason at once and once a minute while it lasts, though reasons alternate, and the recovery', async () => {
  const { clock, lines, log } = newBench();
  log.failed('refused');
  log.failed('refused');
  await clock.advance(59_999);
  log.failed('refused');
  expect(lines).toEqual(['warn refused']);
  await clock.advance(1);
  log.failed('refused');
  expect(lines).toEqual(['warn refused', 'warn refused']);
  log.failed('wrong password');
  log.failed('refused');
  log.failed('wrong password');
  log.recovered('connected');
  expect(lines.slice(2)).toEqual(['warn wrong password', 'log connected']);
});

it('logs no recovery without a failure, and each outage anew', () => {
  const { lines, log } = newBench();
  log.recovered('connected');
  log.failed('refused');
  log.recovered('connected');
  log.recovered('connected');
  log.failed('refused');
  expect(lines).toEqual(['warn refused', 'log connected', 'warn refused']);
});
