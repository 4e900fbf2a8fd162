import type { DeadLetterReason, DeadLetterRecord } from './dead-letter-record.js';

/** Progress of a replay or discard. @publicApi */
export interface DeadLetterProgress {
  /** Dead letters that were inspected. */
  readonly seen: number;
  /** Dead letters that match the filter. */
  readonly matched: number;
  /** Dead letters that were replayed or discarded; in a dry run, those that would have been. */
  readonly done: number;
}

/** A dead letter that matches the filter but was not replayed or discarded. @publicApi */
export interface SkippedDeadLetter {
  readonly id: string;
  readonly why: string;
}

/** Result of a replay or discard. @publicApi */
export interface DeadLetterReport extends DeadLetterProgress {
  /** True: nothing was changed, and `done` counts what would have been. */
  readonly dryRun: boolean;
  /** `done`, by the reason of the dead letters. */
  readonly byReason: Readonly<Partial<Record<DeadLetterReason, number>>>;
  /** Dead letters that match the filter but were not replayed or discarded. */
  readonly skipped: number;
  /** The first 100 of the skipped ones. */
  readonly skippedDeadLetters: readonly SkippedDeadLetter[];
}

/** Counts of dead letters. @publicApi */
export interface DeadLetterStats {
  readonly total: number;
  readonly byReason: Readonly<Partial<Record<DeadLetterReason, number>>>;
  readonly byHandler: Readonly<Record<string, number>>;
  readonly byPattern: Readonly<Record<string, number>>;
  /** By the name of the error. */
  readonly byError: Readonly<Record<string, number>>;
  /** Dead letters that were replayed before and failed again. */
  readonly replayed: number;
  /** Earliest failure. */
  readonly oldest: Date | undefined;
  /** Latest failure. */
  readonly newest: Date | undefined;
}

/** Skipped dead letters that a report lists one by one. */
const maxSkippedReported = 100;

/** Counts the dead letters of a replay or discard. */
export class ReportBuilder {
  seen = 0;
  matched = 0;
  /** Dead letters that were chosen to be replayed or discarded, whether or not that is done yet. */
  selected = 0;
  readonly #dryRun: boolean;
  /** A map, because the reason comes from a header: `constructor` is a reason like any other. */
  readonly #byReason = new Map<DeadLetterReason, number>();
  readonly #skippedDeadLetters: SkippedDeadLetter[] = [];
  #done = 0;
  #skipped = 0;

  constructor(dryRun: boolean) {
    this.#dryRun = dryRun;
  }

  get progress(): DeadLetterProgress {
    return { seen: this.seen, matched: this.matched, done: this.#done };
  }

  addDone(reason: DeadLetterReason): void {
    this.#done++;
    this.#byReason.set(reason, (this.#byReason.get(reason) ?? 0) + 1);
  }

  addSkipped(id: string, why: string): void {
    this.#skipped++;
    if (this.#skippedDeadLetters.length < maxSkippedReported) this.#skippedDeadLetters.push({ id, why });
  }

  build(): DeadLetterReport {
    const { seen, matched, done } = this.progress;
    return {
      dryRun: this.#dryRun,
      seen,
      matched,
      done,
      byReason: Object.fromEntries(this.#byReason),
      skipped: this.#skipped,
      skippedDeadLetters: this.#skippedDeadLetters,
    };
  }
}

export class StatsCollector {
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
