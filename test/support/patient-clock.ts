import { systemClock, type StorkClock } from '../../lib/core/runtime/clock.js';

/** Timers take ten times as long: a shutdown has the time that a busy machine needs, and still an end. */
export const patientClock: StorkClock = {
  ...systemClock,
  setTimer: (ms, fire) => systemClock.setTimer(ms * 10, fire),
};
