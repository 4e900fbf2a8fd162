import type { StorkClock } from '../../core/runtime/clock.js';
import type { Counters, StorkLogger } from '../../core/runtime/reporting.js';
import type { Driver } from '../../core/port/driver.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { StorkContext } from '../context/stork.context.js';
import type { CommonTransportOptions } from '../transport-options.js';

/** What the application provides to a driver. */
export interface DriverEnvironment {
  /** The transport's name. */
  readonly name: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  /** Counters of this transport. */
  readonly counters: Counters;
  /** Shared by the transports of one application, e.g. the in-memory broker. */
  readonly shared: Map<symbol, unknown>;
}

/**
 * A transport as `rabbitmq()`, `kafka()` and `memory()` describe it. Creating a definition does no I/O and
 * no validation: module decorators are evaluated while files load, where an exception would end the
 * process. Wrong options reject `app.listen()` or `app.startAllMicroservices()` instead.
 *
 * @publicApi
 */
export interface TransportDefinition {
  /** Options that every transport has. */
  readonly common: CommonTransportOptions;
  /** Class of the object that handlers get by `@Ctx()`. @defaultValue StorkContext */
  readonly context?: typeof StorkContext;
  /** Returns every problem of the options; each name starts with `path`. */
  validate(path: string): readonly ConfigProblem[];
  /** Called once for each application, after `validate` returned no problem. Does no I/O. */
  createDriver(environment: DriverEnvironment): Driver;
}

export function isTransportDefinition(value: unknown): value is TransportDefinition {
  return typeof value === 'object' && value !== null && 'createDriver' in value && 'validate' in value;
}
