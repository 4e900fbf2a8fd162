/** Injection tokens of the library's own providers; not exported. */
export const STORK_OPTIONS = Symbol('stork.options');
export const STORK_DECLARED_TRANSPORTS = Symbol('stork.declared-transports');

/** Provides the `StorkClock`; tests override it with a virtual clock. */
export const STORK_CLOCK = Symbol('stork.clock');
