/** Exports for the unit tests, so that only this file needs a declaration file. */
export { mirrorIn } from './apt.mjs';
export { parseArguments } from './arguments.mjs';
export { readAddress } from './given.mjs';
export { instanceOf, isVersion } from './instances.mjs';
export { withLock } from './lock.mjs';
export { freePort, isListening } from './ports.mjs';
export { readApiVersions, readConnectionStart, readNodes, readPong } from './probes.mjs';
export { run } from './processes.mjs';
export { readState, writeState } from './state.mjs';
