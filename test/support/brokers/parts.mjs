/** The parts that unit tests look at, in one place, so that only this one needs types beside it. */
export { mirrorIn } from './apt.mjs';
export { parseArguments } from './arguments.mjs';
export { readAddress } from './given.mjs';
export { instanceOf, isVersion } from './instances.mjs';
export { withLock } from './lock.mjs';
export { freePort, isListening } from './ports.mjs';
export { readApiVersions, readConnectionStart, readNodes, readPong } from './probes.mjs';
export { readState, writeState } from './state.mjs';
