import type { StorkClock } from '../../core/runtime/clock.js';
import type { Counters } from '../../core/runtime/counters.js';
import type { Driver } from '../../core/port/driver.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import type { StorkContext } from '../context/stork.context.js';
import type { CommonTransportOptions } from '../transport-options.js';

/** What an application gives to the drivers of its transports. */
export interface DriverEnvironment {
  /** The transport's name. */
  readonly name: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  /** The transport's own. */
  readonly counters: Counters;
  /** One for each application: what its transports share, e.g. the in-memory broker. */
  readonly shared: Map<symbol, unknown>;
}

/**
 * A transport as `memory()` and its like record it: no I/O, no check yet, so that wrong options reject `app.listen()` instead of
 * ending the process while modules load.
 *
 * @publicApi
 */
export interface TransportDefinition {
  readonly common: CommonTransportOptions;
  /** What handlers get by `@Ctx()`, where the broker has more to tell. @defaultValue StorkContext */
  readonly context?: typeof StorkContext;
  /** Everything wrong with the options, each name with `path` before it. */
  validate(path: string): readonly ConfigProblem[];
  /** Called once, after `validate` found nothing. No I/O. */
  createDriver(environment: DriverEnvironment): Driver;
}

export function isTransportDefinition(value: unknown): value is TransportDefinition {
  return typeof value === 'object' && value !== null && 'createDriver' in value && 'validate' in value;
}
