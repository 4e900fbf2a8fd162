import { sleep, type Clock } from './clock.js';
import type { DeadLetterBox, LetterOutcome, StoredLetter, Verdict } from './dead-letters.js';
import { messageOf } from './errors.js';
import { readLetter, type DeadLetter, type LetterReason } from './letter.js';
import { isMeant, type DeadLetterFilter } from './letter-filter.js';
import { replayHeaders } from './letter-replay.js';

/** How far a pass has come. @publicApi */
export interface LetterProgress {
  /** Letters looked at. */
  readonly seen: number;
  /** Letters that are meant. */
  readonly matched: number;
  /** Letters that were replayed or discarded; in a dry run, that would be. */
  readonly done: number;
}

/** A letter that stays although it is meant, and why. @publicApi */
export interface KeptLetter {
  readonly id: string;
  readonly why: string;
}

/** What came of a replay or a discard. @publicApi */
export interface LetterReport extends LetterProgress {
  /** True: nothing was changed, and `done` is what would have been. */
  readonly dryRun: boolean;
  /** How many of `done` by their reason. */
  readonly byReason: Readonly<Partial<Record<LetterReason, number>>>;
  /** Letters that are meant and stay. */
  readonly kept: number;
  /** The first 100 of those. */
  readonly keptLetters: readonly KeptLetter[];
}

/** What lies there, counted. @publicApi */
export interface DeadLetterStats {
  readonly total: number;
  readonly byReason: Readonly<Partial<Record<LetterReason, number>>>;
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

export interface LookOptions {
  readonly filter: DeadLetterFilter;
  readonly signal: AbortSignal;
}

export interface WorkOptions extends LookOptions {
  readonly dryRun: boolean;
  /** Letters that are replayed or discarded at most. */
  readonly max: number;
  /** Letters a second at most. */
  readonly rate: number;
  /** See `PassOptions`. @defaultValue the box's own */
  readonly window?: number | undefined;
  readonly clock: Clock;
  /** What it throws ends the work as `signal` would, and is what the work rejects with. */
  readonly onProgress: (progress: LetterProgress) => void;
}

export interface ReplayOptions extends WorkOptions {
  /** A letter that was replayed so often stays: what fails every time would go round for ever. */
  readonly maxReplays: number;
}

/** How many of the letters that stay are told one by one. */
const maxKeptTold = 100;

/** The first `max` letters that are meant, oldest first. Settles nothing. */
export async function listLetters(
  box: DeadLetterBox,
  { filter, signal, max }: LookOptions & { readonly max: number },
): Promise<DeadLetter[]> {
  const found: DeadLetter[] = [];
  await look(box, signal, (letter) => {
    if (isMeant(letter, filter)) found.push(letter);
    return found.length < max;
  });
  return found;
}

/** Counts all that are meant. Settles nothing. */
export async function countLetters(
  box: DeadLetterBox,
  { filter, signal }: LookOptions,
): Promise<DeadLetterStats> {
  const tally = new Tally();
  await look(box, signal, (letter) => {
    if (isMeant(letter, filter)) tally.add(letter);
    return true;
  });
  return tally.stats();
}

/** Sends letters back to what failed them; see `Verdict`. Rejects where the pass does; what `onProgress` was told by then is done. */
export function replayLetters(box: DeadLetterBox, options: ReplayOptions): Promise<LetterReport> {
  return work(box, options, (letter, stored) => {
    if (letter.source === undefined) return { why: 'it does not say which queue or topic failed it' };
    if (letter.replays >= options.maxReplays)
      return {
        why: `it was replayed ${letter.replays} times already, maxReplays allows ${options.maxReplays}`,
      };
    return { replay: replayHeaders(stored) };
  });
}

/** Removes letters for good. Rejects where the pass does; what `onProgress` was told by then is gone. */
export function discardLetters(box: DeadLetterBox, options: WorkOptions): Promise<LetterReport> {
  return work(box, options, () => 'discard');
}

type Decision = Exclude<Verdict, 'keep' | 'stop'> | { readonly why: string };

async function work(
  box: DeadLetterBox,
  options: WorkOptions,
  decide: (letter: DeadLetter, stored: StoredLetter) => Decision,
): Promise<LetterReport> {
  const { filter, dryRun, max, clock, signal, window = box.defaultWindow } = options;
  const report = new Report(dryRun);
  const pace = new Pace(clock, options.rate);
  let failure: { readonly error: unknown } | undefined;
  // A pass must not hear of it half-way: what is on its way is still to be settled, and told.
  const onProgress = (progress: LetterProgress): void => {
    try {
      if (failure === undefined) options.onProgress(progress);
    } catch (error) {
      failure = { error };
    }
  };
  const visit = async (stored: StoredLetter): Promise<Verdict> => {
    if (failure !== undefined) return 'stop';
    const letter = readLetter(stored);
    if (!belongsTo(box, letter)) return 'keep';
    report.seen++;
    const isWanted = isMeant(letter, filter);
    if (isWanted && report.chosen >= max) return 'stop';
    const decision = isWanted ? decide(letter, stored) : undefined;
    if (isWanted) report.matched++;
    if (typeof decision === 'object' && 'why' in decision) report.keep(letter.id, decision.why);
    else if (decision !== undefined) {
      report.chosen++;
      if (dryRun) report.add(letter.reason);
      else {
        await pace.next(signal);
        // Told to leave off while it waited.
        return signal.aborted ? 'stop' : decision;
      }
    }
    onProgress(report.progress);
    return 'keep';
  };
  const settled = (stored: StoredLetter, outcome: LetterOutcome): void => {
    const { id, reason } = readLetter(stored);
    if (typeof outcome === 'object') report.keep(id, messageOf(outcome.kept));
    else report.add(reason);
    onProgress(report.progress);
  };
  await box.pass({ visit, settled }, { window: dryRun ? 1 : window, signal });
  if (failure !== undefined) throw failure.error;
  return report.summary();
}

/** Asks of each letter of the box whether to go on. */
async function look(
  box: DeadLetterBox,
  signal: AbortSignal,
  see: (letter: DeadLetter) => boolean,
): Promise<void> {
  const visit = (stored: StoredLetter): Verdict => {
    const letter = readLetter(stored);
    return !belongsTo(box, letter) || see(letter) ? 'keep' : 'stop';
  };
  await box.pass({ visit, settled: () => {} }, { window: 1, signal });
}

/**
 * Others may keep their letters in the same place. What nobody has signed is shown to everybody. A letter that failed again, where letters
 * are read, still says where it first came from.
 */
function belongsTo(box: DeadLetterBox, { source, group }: DeadLetter): boolean {
  if (source !== undefined && !isOrLettersOf(box.source, source)) return false;
  return box.group === undefined || group === undefined || group === box.group;
}

/** `orders.dlq` holds letters of `orders`, `orders.dlq.dlq` of those who read them. */
function isOrLettersOf(name: string, source: string): boolean {
  return name.startsWith(source) && /^(\.dlq)*$/.test(name.slice(source.length));
}

class Report {
  seen = 0;
  matched = 0;
  /** Those that are, or would be, replayed or discarded, carried out or not. */
  chosen = 0;
  readonly #dryRun: boolean;
  /** A reason is what its writer claims: `constructor` is a text like any other. */
  readonly #byReason = new Map<LetterReason, number>();
  readonly #keptLetters: KeptLetter[] = [];
  #done = 0;
  #kept = 0;

  constructor(dryRun: boolean) {
    this.#dryRun = dryRun;
  }

  get progress(): LetterProgress {
    return { seen: this.seen, matched: this.matched, done: this.#done };
  }

  add(reason: LetterReason): void {
    this.#done++;
    this.#byReason.set(reason, (this.#byReason.get(reason) ?? 0) + 1);
  }

  keep(id: string, why: string): void {
    this.#kept++;
    if (this.#keptLetters.length < maxKeptTold) this.#keptLetters.push({ id, why });
  }

  summary(): LetterReport {
    const { seen, matched, done } = this.progress;
    const kept = { kept: this.#kept, keptLetters: this.#keptLetters };
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

class Tally {
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

  add({ reason, handler, pattern, error, replays, failedAt }: DeadLetter): void {
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
class Pace {
  readonly #clock: Clock;
  readonly #periodMs: number;
  #nextAt = 0;

  constructor(clock: Clock, rate: number) {
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
