import { sleep, type StorkClock } from '../../runtime/clock.js';
import type {
  DeadLetterStore,
  DeadLetterOutcome,
  StoredDeadLetter,
  DeadLetterAction,
} from '../../port/dead-letter-store.js';
import { messageOf } from '../../runtime/errors.js';
import { readDeadLetter, type DeadLetterRecord, type DeadLetterReason } from './dead-letter-record.js';
import { matchesFilter, type DeadLetterFilter } from './dead-letter-filter.js';
import { replayHeaders } from '../dead-letter-message.js';

/** How far a pass has come. @publicApi */
export interface DeadLetterProgress {
  /** Letters looked at. */
  readonly seen: number;
  /** Letters that are meant. */
  readonly matched: number;
  /** Letters that were replayed or discarded; in a dry run, that would be. */
  readonly done: number;
}

/** A letter that stays although it is meant, and why. @publicApi */
export interface SkippedDeadLetter {
  readonly id: string;
  readonly why: string;
}

/** What came of a replay or a discard. @publicApi */
export interface DeadLetterReport extends DeadLetterProgress {
  /** True: nothing was changed, and `done` is what would have been. */
  readonly dryRun: boolean;
  /** How many of `done` by their reason. */
  readonly byReason: Readonly<Partial<Record<DeadLetterReason, number>>>;
  /** Letters that are meant and stay. */
  readonly skipped: number;
  /** The first 100 of those. */
  readonly skippedDeadLetters: readonly SkippedDeadLetter[];
}

/** What lies there, counted. @publicApi */
export interface DeadLetterStats {
  readonly total: number;
  readonly byReason: Readonly<Partial<Record<DeadLetterReason, number>>>;
  readonly byHandler: Readonly<Record<string, number>>;
  readonly byPattern: Readonly<Record<string, number>>;
  /** By the error's name. */
  readonly byError: Readonly<Record<string, number>>;
  /** Letters that were replayed before and came back. */
  readonly replayed: number;
  /** When the first and the last of them failed. */
  readonly oldest: Date | undefined;
  readonly newest: Date | undefined;
}

export interface BrowseOptions {
  readonly filter: DeadLetterFilter;
  readonly signal: AbortSignal;
}

export interface WorkOptions extends BrowseOptions {
  readonly dryRun: boolean;
  /** Letters that are replayed or discarded at most. */
  readonly max: number;
  /** Letters a second at most. */
  readonly rate: number;
  /** See `ScanOptions`. @defaultValue the box's own */
  readonly window?: number | undefined;
  readonly clock: StorkClock;
  /** What it throws ends the work as `signal` would, and is what the work rejects with. */
  readonly onProgress: (progress: DeadLetterProgress) => void;
}

export interface ReplayOptions extends WorkOptions {
  /** A letter that was replayed so often stays: what fails every time would go round for ever. */
  readonly maxReplays: number;
}

/** How many of the letters that stay are told one by one. */
const maxSkippedReported = 100;

/** The first `max` letters that are meant, oldest first. Settles nothing. */
export async function listDeadLetters(
  store: DeadLetterStore,
  { filter, signal, max }: BrowseOptions & { readonly max: number },
): Promise<DeadLetterRecord[]> {
  const found: DeadLetterRecord[] = [];
  await look(store, signal, (deadLetter) => {
    if (matchesFilter(deadLetter, filter)) found.push(deadLetter);
    return found.length < max;
  });
  return found;
}

/** Counts all that are meant. Settles nothing. */
export async function countDeadLetters(
  store: DeadLetterStore,
  { filter, signal }: BrowseOptions,
): Promise<DeadLetterStats> {
  const statsCollector = new StatsCollector();
  await look(store, signal, (deadLetter) => {
    if (matchesFilter(deadLetter, filter)) statsCollector.add(deadLetter);
    return true;
  });
  return statsCollector.stats();
}

/** Sends letters back to what failed them; see `Verdict`. Rejects where the pass does; what `onProgress` was told by then is done. */
export function replayDeadLetters(store: DeadLetterStore, options: ReplayOptions): Promise<DeadLetterReport> {
  return work(store, options, (deadLetter, stored) => {
    if (deadLetter.source === undefined) return { why: 'it does not say which queue or topic failed it' };
    if (deadLetter.replays >= options.maxReplays)
      return {
        why: `it was replayed ${deadLetter.replays} times already, maxReplays allows ${options.maxReplays}`,
      };
    return { replay: replayHeaders(stored) };
  });
}

/** Removes letters for good. Rejects where the pass does; what `onProgress` was told by then is gone. */
export function discardDeadLetters(store: DeadLetterStore, options: WorkOptions): Promise<DeadLetterReport> {
  return work(store, options, () => 'discard');
}

type Decision = Exclude<DeadLetterAction, 'keep' | 'stop'> | { readonly why: string };

async function work(
  store: DeadLetterStore,
  options: WorkOptions,
  decide: (deadLetter: DeadLetterRecord, stored: StoredDeadLetter) => Decision,
): Promise<DeadLetterReport> {
  const { filter, dryRun, max, clock, signal, window = store.defaultWindow } = options;
  const report = new Report(dryRun);
  const rateLimiter = new RateLimiter(clock, options.rate);
  let failure: { readonly error: unknown } | undefined;
  // A pass must not hear of it half-way: what is on its way is still to be settled, and told.
  const onProgress = (progress: DeadLetterProgress): void => {
    try {
      if (failure === undefined) options.onProgress(progress);
    } catch (error) {
      failure = { error };
    }
  };
  const visit = async (stored: StoredDeadLetter): Promise<DeadLetterAction> => {
    if (failure !== undefined) return 'stop';
    const deadLetter = readDeadLetter(stored);
    if (!belongsTo(store, deadLetter)) return 'keep';
    report.seen++;
    const isWanted = matchesFilter(deadLetter, filter);
    if (isWanted && report.chosen >= max) return 'stop';
    const decision = isWanted ? decide(deadLetter, stored) : undefined;
    if (isWanted) report.matched++;
    if (typeof decision === 'object' && 'why' in decision) report.keep(deadLetter.id, decision.why);
    else if (decision !== undefined) {
      report.chosen++;
      if (dryRun) report.add(deadLetter.reason);
      else {
        await rateLimiter.next(signal);
        // Told to leave off while it waited.
        return signal.aborted ? 'stop' : decision;
      }
    }
    onProgress(report.progress);
    return 'keep';
  };
  const settled = (stored: StoredDeadLetter, outcome: DeadLetterOutcome): void => {
    const { id, reason } = readDeadLetter(stored);
    if (typeof outcome === 'object') report.keep(id, messageOf(outcome.skipped));
    else report.add(reason);
    onProgress(report.progress);
  };
  await store.scan({ decide: visit, settled }, { window: dryRun ? 1 : window, signal });
  if (failure !== undefined) throw failure.error;
  return report.summary();
}

/** Asks of each letter of the box whether to go on. */
async function look(
  store: DeadLetterStore,
  signal: AbortSignal,
  see: (deadLetter: DeadLetterRecord) => boolean,
): Promise<void> {
  const visit = (stored: StoredDeadLetter): DeadLetterAction => {
    const deadLetter = readDeadLetter(stored);
    return !belongsTo(store, deadLetter) || see(deadLetter) ? 'keep' : 'stop';
  };
  await store.scan({ decide: visit, settled: () => {} }, { window: 1, signal });
}

/**
 * Others may keep their letters in the same place. What nobody has signed is shown to everybody. A letter that failed again, where letters
 * are read, still says where it first came from.
 */
function belongsTo(store: DeadLetterStore, { source, group }: DeadLetterRecord): boolean {
  if (source !== undefined && !isSourceOrItsDeadLetters(store.source, source)) return false;
  return store.group === undefined || group === undefined || group === store.group;
}

/** `orders.dlq` holds letters of `orders`, `orders.dlq.dlq` of those who read them. */
function isSourceOrItsDeadLetters(name: string, source: string): boolean {
  return name.startsWith(source) && /^(\.dlq)*$/.test(name.slice(source.length));
}

class Report {
  seen = 0;
  matched = 0;
  /** Those that are, or would be, replayed or discarded, carried out or not. */
  chosen = 0;
  readonly #dryRun: boolean;
  /** A reason is what its writer claims: `constructor` is a text like any other. */
  readonly #byReason = new Map<DeadLetterReason, number>();
  readonly #skippedDeadLetters: SkippedDeadLetter[] = [];
  #done = 0;
  #kept = 0;

  constructor(dryRun: boolean) {
    this.#dryRun = dryRun;
  }

  get progress(): DeadLetterProgress {
    return { seen: this.seen, matched: this.matched, done: this.#done };
  }

  add(reason: DeadLetterReason): void {
    this.#done++;
    this.#byReason.set(reason, (this.#byReason.get(reason) ?? 0) + 1);
  }

  keep(id: string, why: string): void {
    this.#kept++;
    if (this.#skippedDeadLetters.length < maxSkippedReported) this.#skippedDeadLetters.push({ id, why });
  }

  summary(): DeadLetterReport {
    const { seen, matched, done } = this.progress;
    const kept = { skipped: this.#kept, skippedDeadLetters: this.#skippedDeadLetters };
    return {
      dryRun: this.#dryRun,
      seen,
      matched,
      done,
      byReason: Object.fromEntries(this.#byReason),
      ...kept,
    };
  }
}

class StatsCollector {
  readonly #counts = {
    reason: new Map<string, number>(),
    handler: new Map<string, number>(),
    pattern: new Map<string, number>(),
    error: new Map<string, number>(),
  };
  #total = 0;
  #replayed = 0;
  #oldest: Date | undefined;
  #newest: Date | undefined;

  add({ reason, handler, pattern, error, replays, failedAt }: DeadLetterRecord): void {
    this.#total++;
    if (replays > 0) this.#replayed++;
    const named = { reason, handler, pattern, error: error?.name };
    for (const [kind, counts] of Object.entries(this.#counts)) {
      const name = named[kind as keyof typeof named];
      if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    if (failedAt === undefined) return;
    if (this.#oldest === undefined || failedAt < this.#oldest) this.#oldest = failedAt;
    if (this.#newest === undefined || failedAt > this.#newest) this.#newest = failedAt;
  }

  stats(): DeadLetterStats {
    const { reason, handler, pattern, error } = this.#counts;
    return {
      total: this.#total,
      byReason: Object.fromEntries(reason),
      byHandler: Object.fromEntries(handler),
      byPattern: Object.fromEntries(pattern),
      byError: Object.fromEntries(error),
      replayed: this.#replayed,
      oldest: this.#oldest,
      newest: this.#newest,
    };
  }
}

/** Lets one through at a time, so many a second. */
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
