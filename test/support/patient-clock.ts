import { systemClock, type Clock } from '../../lib/core/clock.js';

/** Timers take ten times as long: a shutdown has the time that a busy machine needs, and still an end. */
export const patientClock: Clock = {
  ...systemClock,
  setTimer: (ms, fire) => systemClock.setTimer(ms * 10, fire),
};
