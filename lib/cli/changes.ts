import {
  discardLetters,
  replayLetters,
  type LetterProgress,
  type LetterReport,
  type WorkOptions,
} from '../core/letter-work.js';
import type { DeadLetterFilter } from '../core/letter-filter.js';
import { jsonLine } from './letter-json.js';
import { ProgressBar } from './progress-bar.js';
import { planLine, reportView } from './report-view.js';
import { warn, type Session } from './session.js';

export interface ChangeFlags {
  readonly yes?: true;
  readonly max?: number;
  readonly rate?: number;
  readonly window?: number;
}

export interface ReplayFlags extends ChangeFlags {
  readonly maxReplays: number;
}

/** What is done to letters, and how it is said. */
export interface Change {
  readonly name: 'replay' | 'discard';
  readonly done: 'replayed' | 'discarded';
}

/** What came of it; `complete` is false where it was interrupted or failed, and then not all is known. */
export interface Outcome
  extends LetterProgress, Partial<Pick<LetterReport, 'byReason' | 'kept' | 'keptLetters'>> {
  readonly dryRun: boolean;
  readonly complete: boolean;
}

export async function replay(session: Session, filter: DeadLetterFilter, flags: ReplayFlags): Promise<void> {
  const { maxReplays } = flags;
  const warnings = await session.box.warnings();
  for (const line of warnings) warn(session.host, line);
  await change(session, { name: 'replay', done: 'replayed' }, flags, (options) =>
    replayLetters(session.box, { ...options, filter, maxReplays }),
  );
}

export async function discard(session: Session, filter: DeadLetterFilter, flags: ChangeFlags): Promise<void> {
  await change(session, { name: 'discard', done: 'discarded' }, flags, (options) =>
    discardLetters(session.box, { ...options, filter }),
  );
}

async function change(
  session: Session,
  what: Change,
  flags: ChangeFlags,
  work: (options: Omit<WorkOptions, 'filter'>) => Promise<LetterReport>,
): Promise<void> {
  const { box, json } = session;
  const { stdout, stderr, clock, signal } = session.host;
  const { max = Infinity, rate = Infinity, window } = flags;
  const dryRun = flags.yes !== true;
  const total = await box.count();
  if (!json) stdout.write(planLine(box, what, { dryRun, total, max }));
  const bar = new ProgressBar({ output: stderr, clock, total, max, done: what.done });
  let progress: LetterProgress = { seen: 0, matched: 0, done: 0 };
  const onProgress = (now: LetterProgress): void => {
    progress = now;
    bar.show(now);
  };
  const tell = (outcome: Outcome): void => {
    bar.end();
    const { name: from, source, group = null } = box;
    const document = { action: what.name, from, source, group, ...outcome };
    stdout.write(json ? jsonLine(document) : reportView(what, outcome));
  };
  try {
    const report = await work({ signal, dryRun, max, rate, window, clock, onProgress });
    tell({ ...report, complete: !signal.aborted });
  } catch (error) {
    tell({ ...progress, dryRun, complete: false });
    throw error;
  } finally {
    bar.end();
  }
}
