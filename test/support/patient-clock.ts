import { systemClock, type StorkClock } from '../../lib/core/runtime/clock.js';

/** Timers take ten times as long: on a busy machine a shutdown is not cut short, and still has a deadline. */
export const patientClock: StorkClock = {
  ...systemClock,
  setTimer: (ms, fire) => systemClock.setTimer(ms * 10, fire),
};
