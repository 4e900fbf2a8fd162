/** The parts that unit tests import, in one place, so that only this one needs types beside it. */
export { readArguments } from './arguments.mjs';
export { verdictOf } from './verdict.mjs';
export { rows } from './rows.mjs';
