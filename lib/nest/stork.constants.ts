/**
 * Injection tokens of the library's own providers; not exported. By `Symbol.for`, because a bundler may
 * take `StorkModule` from one copy of the package and `connectStork()` from another.
 */
export const STORK_OPTIONS = Symbol.for('nestjs-stork.options');
export const STORK_DECLARED_TRANSPORTS = Symbol.for('nestjs-stork.declared-transports');
/** Provides the transports of one `forFeature()`. */
export const STORK_FEATURE = Symbol.for('nestjs-stork.feature');
export const STORK_SERVER = Symbol.for('nestjs-stork.server');

/** Provides the `StorkClock`; tests override it with a virtual clock. */
export const STORK_CLOCK = Symbol.for('nestjs-stork.clock');

/** Provides the prefix of the handler ids of one module. */
export const STORK_HANDLER_ID_PREFIX = Symbol.for('nestjs-stork.handler-id-prefix');
