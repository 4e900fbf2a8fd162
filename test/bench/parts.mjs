/** Exports for the unit tests, so that only this file needs a declaration file. */
export { readArguments } from './arguments.mjs';
export { verdictOf } from './verdict.mjs';
export { rows } from './rows.mjs';
