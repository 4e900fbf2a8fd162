import { sleep, type StorkClock } from '../../runtime/clock.js';
import { andThen } from '../../runtime/with-timeout.js';
import type {
  DeadLetterStore,
  DeadLetterOutcome,
  StoredDeadLetter,
  DeadLetterAction,
} from '../../port/dead-letter-store.js';
import { messageOf } from '../../runtime/errors.js';
import { readDeadLetter, type DeadLetterRecord } from './dead-letter-record.js';
import { matchesFilter, type DeadLetterFilter } from './dead-letter-filter.js';
import {
  ReportBuilder,
  StatsCollector,
  type DeadLetterProgress,
  type DeadLetterReport,
  type DeadLetterStats,
} from './dead-letter-report.js';
import {
  copyHeaders,
  deadLetterHeaders,
  headerNames,
  headerSetter,
  readCount,
  writeOrigin,
  type MessageHeaders,
} from '../../message/headers.js';

export type {
  DeadLetterProgress,
  DeadLetterReport,
  DeadLetterStats,
  SkippedDeadLetter,
} from './dead-letter-report.js';

export interface BrowseOptions {
  readonly filter: DeadLetterFilter;
  readonly signal: AbortSignal;
  /** Called for each dead letter of the store that is inspected. Must not throw. */
  readonly onProgress?: ((progress: DeadLetterProgress) => void) | undefined;
}

export interface ReplayDiscardOptions extends BrowseOptions {
  readonly dryRun: boolean;
  /** Maximum number of dead letters to replay or discard. */
  readonly max: number;
  /** Maximum number of dead letters a second. */
  readonly rate: number;
  /** See `ScanOptions`. @defaultValue the store's `defaultWindow` */
  readonly window?: number | undefined;
  readonly clock: StorkClock;
  /** An error that it throws stops the scan like `signal`; the operation then rejects with that error. */
  readonly onProgress: (progress: DeadLetterProgress) => void;
}

export interface ReplayOptions extends ReplayDiscardOptions {
  /**
   * A dead letter that was replayed this often is skipped: a message that always fails would be replayed
   * forever.
   */
  readonly maxReplays: number;
}

/**
 * Calls `visit` with each dead letter that matches the filter, oldest first, until it returns false. `visit`
 * must not throw. Settles nothing.
 */
export async function browseDeadLetters(
  store: DeadLetterStore,
  { filter, signal, onProgress }: BrowseOptions,
  visit: (deadLetter: DeadLetterRecord) => boolean | Promise<boolean>,
): Promise<void> {
  let seen = 0;
  let matched = 0;
  const decide = (stored: StoredDeadLetter): DeadLetterAction | Promise<DeadLetterAction> => {
    const deadLetter = readDeadLetter(stored);
    if (!belongsToStore(store, deadLetter)) return 'keep';
    const isMatch = matchesFilter(deadLetter, filter);
    seen++;
    if (isMatch) matched++;
    onProgress?.({ seen, matched, done: 0 });
    return isMatch ? andThen(visit(deadLetter), (goesOn) => (goesOn ? 'keep' : 'stop')) : 'keep';
  };
  await store.scan({ decide, settled: () => {} }, { window: 1, signal });
}

/** The first `max` dead letters that match the filter, oldest first. Settles nothing. */
export async function listDeadLetters(
  store: DeadLetterStore,
  { max, ...options }: BrowseOptions & { readonly max: number },
): Promise<DeadLetterRecord[]> {
  const matched: DeadLetterRecord[] = [];
  await browseDeadLetters(store, options, (deadLetter) => matched.push(deadLetter) < max);
  return matched;
}

/** Counts all dead letters that match the filter. Settles nothing. */
export async function countDeadLetters(
  store: DeadLetterStore,
  options: BrowseOptions,
): Promise<DeadLetterStats> {
  const collector = new StatsCollector();
  await browseDeadLetters(store, options, (deadLetter) => {
    collector.add(deadLetter);
    return true;
  });
  return collector.stats();
}

/**
 * Sends dead letters back to the queue or consumer group in which they failed; see `DeadLetterAction`.
 * Rejects if the scan does; the dead letters reported to `onProgress` by then are replayed.
 */
export function replayDeadLetters(store: DeadLetterStore, options: ReplayOptions): Promise<DeadLetterReport> {
  return apply(store, options, (deadLetter, stored) => {
    if (deadLetter.source === undefined)
      return { why: 'its headers do not name the queue or topic in which it failed' };
    if (deadLetter.replays >= options.maxReplays)
      return {
        why: `it was replayed ${deadLetter.replays} times already, maxReplays allows ${options.maxReplays}`,
      };
    return { replay: replayHeaders(stored) };
  });
}

/**
 * Discards dead letters. Rejects if the scan does; the dead letters reported to `onProgress` by then are
 * discarded.
 */
export function discardDeadLetters(
  store: DeadLetterStore,
  options: ReplayDiscardOptions,
): Promise<DeadLetterReport> {
  return apply(store, options, () => 'discard');
}

/** `why`: the dead letter is skipped for this reason. */
type Decision = Exclude<DeadLetterAction, 'keep' | 'stop'> | { readonly why: string };

/**
 * Scans the store and applies the decision to each dead letter that matches the filter, up to `max` and
 * within `rate`.
 */
async function apply(
  store: DeadLetterStore,
  options: ReplayDiscardOptions,
  decide: (deadLetter: DeadLetterRecord, stored: StoredDeadLetter) => Decision,
): Promise<DeadLetterReport> {
  const { filter, dryRun, max, clock, signal, window = store.defaultWindow } = options;
  const report = new ReportBuilder(dryRun);
  const rateLimiter = new RateLimiter(clock, options.rate);
  let failure: { readonly error: unknown } | undefined;
  // An error of the user's callback must not reach the store: actions in flight are still to be settled and
  // reported.
  const onProgress = (progress: DeadLetterProgress): void => {
    try {
      if (failure === undefined) options.onProgress(progress);
    } catch (error) {
      failure = { error };
    }
  };
  const chooseAction = async (stored: StoredDeadLetter): Promise<DeadLetterAction> => {
    if (failure !== undefined) return 'stop';
    const deadLetter = readDeadLetter(stored);
    if (!belongsToStore(store, deadLetter)) return 'keep';
    report.seen++;
    const isMatch = matchesFilter(deadLetter, filter);
    if (isMatch && report.selected >= max) return 'stop';
    const decision = isMatch ? decide(deadLetter, stored) : undefined;
    if (isMatch) report.matched++;
    if (typeof decision === 'object' && 'why' in decision) report.addSkipped(deadLetter.id, decision.why);
    else if (decision !== undefined) {
      report.selected++;
      if (dryRun) report.addDone(deadLetter.reason);
      else {
        await rateLimiter.next(signal);
        // The signal may have aborted during the wait.
        return signal.aborted ? 'stop' : decision;
      }
    }
    onProgress(report.progress);
    return 'keep';
  };
  const settled = (stored: StoredDeadLetter, outcome: DeadLetterOutcome): void => {
    const { id, reason } = readDeadLetter(stored);
    if (typeof outcome === 'object') report.addSkipped(id, messageOf(outcome.skipped));
    else report.addDone(reason);
    onProgress(report.progress);
  };
  await store.scan({ decide: chooseAction, settled }, { window: dryRun ? 1 : window, signal });
  if (failure !== undefined) throw failure.error;
  return report.build();
}

/**
 * Several sources and groups may share a dead letter queue or topic. A dead letter without a source or a
 * group belongs to all of them. One that failed again while it was consumed from a dead letter queue or
 * topic keeps its first source.
 */
function belongsToStore(store: DeadLetterStore, { source, group }: DeadLetterRecord): boolean {
  if (source !== undefined && !isSourceOrItsDeadLetters(store.source, source)) return false;
  return store.group === undefined || group === undefined || group === store.group;
}

/**
 * `orders.dlq` holds dead letters of `orders`; `orders.dlq.dlq` holds those of handlers that consume
 * `orders.dlq`.
 */
function isSourceOrItsDeadLetters(name: string, source: string): boolean {
  return name.startsWith(source) && /^(\.dlq)*$/.test(name.slice(source.length));
}

/** Spaces calls evenly, at most `rate` a second. */
class RateLimiter {
  readonly #clock: StorkClock;
  readonly #periodMs: number;
  #nextAt = 0;

  constructor(clock: StorkClock, rate: number) {
    this.#clock = clock;
    this.#periodMs = 1_000 / rate;
  }

  async next(signal: AbortSignal): Promise<void> {
    const now = this.#clock.now();
    const waitMs = this.#nextAt - now;
    this.#nextAt = Math.max(now, this.#nextAt) + this.#periodMs;
    if (waitMs > 0) await sleep(this.#clock, waitMs, signal);
  }
}

/**
 * Headers about earlier attempts, which a replay removes: the attempts of a replayed message start at 1
 * again. The handler header stays, so that the replay reaches only the handler that failed.
 */
const attemptHeaders = [
  headerNames.attempt,
  headerNames.firstFailedAt,
  headerNames.dueAt,
  headerNames.deadline,
  headerNames.unhandledCount,
];

/** Headers of a replayed message: with an incremented replay count and the original source. */
export function replayHeaders({ message, brokerCause }: StoredDeadLetter): MessageHeaders {
  const headers = copyHeaders(message.headers);
  const set = headerSetter(headers);
  // If the broker dead-lettered the message, no consumer has written the origin headers.
  if (brokerCause !== undefined) writeOrigin(headers, { origin: brokerCause, timestamp: message.timestamp });
  for (const name of [...attemptHeaders, ...deadLetterHeaders]) set(name, undefined);
  set(headerNames.replayCount, String((readCount(headers, headerNames.replayCount) ?? 0) + 1));
  return headers;
}
