/** Injection tokens that only the library uses. */
export const STORK_OPTIONS = Symbol('stork.options');
export const STORK_DECLARED_TRANSPORTS = Symbol('stork.declared-transports');

/** The module's clock: a test module may override it. Provides a `StorkClock`. */
export const STORK_CLOCK = Symbol('stork.clock');
