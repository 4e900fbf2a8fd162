import { mergeLayers } from '../runtime/merge-options.js';

/**
 * What happens after a run of a handler has failed. Runs form one chain: the first, `maxRetries` more in place, then one for each entry of
 * `redeliverDelaysMs`; after the last the message is a dead letter, or its caller gets the error. What is left out is taken from the
 * class, the transport, the module, and in the end from the defaults given here.
 *
 * @publicApi
 */
export interface RetryOptions {
  /** Runs in place after the first; its key and its slot wait with it. 0 to 100 000. @defaultValue 3 */
  readonly maxRetries?: number | undefined;
  /** Wait before the first of them. @defaultValue 1 000 */
  readonly delayMs?: number | undefined;
  /** By what the wait grows each time, from 1. @defaultValue 2 */
  readonly factor?: number | undefined;
  /** What the wait grows to at most. @defaultValue 30 000 */
  readonly maxDelayMs?: number | undefined;
  /** `full`: each wait in place is a random part of what it could be, so that what failed together does not come back together. @defaultValue 'full' */
  readonly jitter?: 'full' | 'none' | undefined;
  /**
   * No run begins later than this after the first failure, redeliveries included. @defaultValue none
   */
  readonly maxElapsedMs?: number | undefined;
  /**
   * Only these failures are worth another run; others are `fatal`. Looked up along the `cause`s. Naming an error here also retries what
   * is otherwise final: an `HttpException` that is an answer, a refusal by a pipe or a guard. `Error` itself names none of those.
   *
   * @defaultValue every failure that is not final by nature
   */
  readonly retryOn?: readonly ErrorMatcher[] | undefined;
  /** Failures that no further run can mend: `fatal` at once. Looked up along the `cause`s; wins over `retryOn`. @defaultValue [] */
  readonly failOn?: readonly ErrorMatcher[] | undefined;
  /** True: the result, or the first item of a stream, counts as a failure. @defaultValue none */
  readonly retryOnResult?: ((result: unknown) => boolean) | undefined;
  /**
   * Called, and awaited, before each further run is waited for. `attempt` is the number of the run that failed, `delayMs` the wait
   * that follows. An error of it is logged and changes nothing.
   */
  readonly onRetry?: ((attempt: number, error: unknown, delayMs: number) => void | Promise<void>) | undefined;
  /**
   * Waits of the runs after those in place, in milliseconds, each through the broker: it survives a restart and holds nothing up, and
   * gives up the order of its key. Never early, on Kafka by the clock of who wrote it. From 1 ms to 28 days; without effect under
   * `at-most-once`, where a message has no way back. @defaultValue []
   */
  readonly redeliverDelaysMs?: readonly number[] | undefined;
}

/** Every default filled in. */
export type RetryPolicy = {
  readonly [Name in Exclude<keyof RetryOptions, OptionalField>]-?: NonNullable<RetryOptions[Name]>;
} & Pick<RetryOptions, OptionalField>;
type OptionalField = 'maxElapsedMs' | 'retryOn' | 'retryOnResult' | 'onRetry';

const defaults = {
  maxRetries: 3,
  delayMs: 1_000,
  factor: 2,
  maxDelayMs: 30_000,
  jitter: 'full',
  failOn: [],
  redeliverDelaysMs: [],
} as const satisfies RetryOptions;

/** Merges field by field; the later layer wins where it says anything. */
export function resolveRetry(...layers: readonly (RetryOptions | undefined)[]): RetryPolicy {
  return mergeLayers(defaults, ...layers) as unknown as RetryPolicy;
}

/** A class of errors, subclasses included, or a function that says whether an error is meant; one that throws means none. @publicApi */
export type ErrorMatcher = (abstract new (...args: never[]) => unknown) | ((error: unknown) => boolean);

/** Nobody wraps an error so often; a getter could make it endless. */
const maxDepth = 100;

/** Whether any matcher means the error, or one that it was caused by. Total: whatever was thrown. */
export function matchesError(error: unknown, matchers: readonly ErrorMatcher[]): boolean {
  const seen = new Set<unknown>();
  let cause = error;
  while (!seen.has(cause) && seen.size < maxDepth) {
    if (matchers.some((matcher) => matchesFilter(cause, matcher))) return true;
    seen.add(cause);
    cause = causeOf(cause);
    if (cause === undefined || cause === null) return false;
  }
  return false;
}

function matchesFilter(error: unknown, matcher: ErrorMatcher): boolean {
  try {
    if (isClass(matcher)) return error instanceof matcher;
    return (matcher as (error: unknown) => unknown)(error) === true;
  } catch {
    return false;
  }
}

/** A class cannot be called, and an old constructor of errors must not be. */
function isClass(matcher: ErrorMatcher): boolean {
  const { prototype } = matcher as { prototype?: unknown };
  if (prototype === Error.prototype || prototype instanceof Error) return true;
  return /^class\b/.test(Function.prototype.toString.call(matcher));
}

function causeOf(error: unknown): unknown {
  try {
    return typeof error === 'object' && error !== null ? (error as { cause?: unknown }).cause : undefined;
  } catch {
    return undefined;
  }
}
