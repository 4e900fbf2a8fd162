import { expect, it } from 'vitest';
import { ShutdownDeadline } from '../../../../lib/nest/bootstrap/shutdown-deadline.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';

const begun = (limitMs: number) => {
  const clock = new VirtualClock();
  const deadline = new ShutdownDeadline(clock, limitMs);
  deadline.begin();
  return { clock, deadline };
};

it.each([
  [20_000, 15_000],
  [60_000, 55_000],
  [4_000, 3_000],
  [50, 37],
  [1, 0],
  [0, 0],
])('of %i ms gives handlers all but a quarter, at most 5 s: %i ms', (limitMs, handlersMs) => {
  expect(begun(limitMs).deadline.handlersMs).toBe(handlersMs);
});

it('divides the reserve between the later steps, so that each has time left', async () => {
  const { clock, deadline } = begun(20_000);
  await clock.advance(deadline.handlersMs);
  expect([deadline.handlersMs, deadline.stepMs]).toEqual([0, 2_500]);
  await clock.advance(deadline.stepMs);
  expect(deadline.stepMs).toBe(1_250);
  await clock.advance(deadline.stepMs);
  expect(deadline.lastStepMs).toBe(1_250);
});

it('leaves the time that handlers do not use to the later steps, of which none takes more than 5 s', async () => {
  const { clock, deadline } = begun(12_000);
  expect([deadline.stepMs, deadline.lastStepMs]).toEqual([5_000, 5_000]);
  await clock.advance(4_000);
  expect([deadline.stepMs, deadline.lastStepMs]).toEqual([4_000, 5_000]);
});

it('is set by the first begin()', async () => {
  const { clock, deadline } = begun(20_000);
  await clock.advance(10_000);
  deadline.begin();
  expect(deadline.handlersMs).toBe(5_000);
});

it('leaves no time once it has passed', async () => {
  const { clock, deadline } = begun(1_000);
  await clock.advance(2_000);
  expect([deadline.handlersMs, deadline.stepMs, deadline.lastStepMs]).toEqual([0, 0, 0]);
});

it('limits a step before the shutdown to 5 s', () => {
  expect(new ShutdownDeadline(new VirtualClock(), 1_000).stepMs).toBe(5_000);
});
