import {
  discardDeadLetters,
  replayDeadLetters,
  type DeadLetterProgress,
  type DeadLetterReport,
  type ReplayDiscardOptions,
} from '../core/dead-letter/admin/dead-letter-operations.js';
import type { DeadLetterFilter } from '../core/dead-letter/admin/dead-letter-filter.js';
import { jsonLine } from './views/dead-letter-json.js';
import { ProgressBar } from './views/progress-bar.js';
import { planLine, reportView, type Operation, type Outcome } from './views/report-view.js';
import { warn, type Session } from './session.js';

export interface OperationFlags {
  readonly yes?: true;
  readonly max?: number;
  readonly rate?: number;
  readonly window?: number;
}

export interface ReplayFlags extends OperationFlags {
  readonly maxReplays: number;
}

export async function replay(session: Session, filter: DeadLetterFilter, flags: ReplayFlags): Promise<void> {
  const { maxReplays } = flags;
  const warnings = await session.store.warnings();
  for (const line of warnings) warn(session.host, line);
  await runOperation(session, { name: 'replay', done: 'replayed' }, flags, (options) =>
    replayDeadLetters(session.store, { ...options, filter, maxReplays }),
  );
}

export async function discard(
  session: Session,
  filter: DeadLetterFilter,
  flags: OperationFlags,
): Promise<void> {
  await runOperation(session, { name: 'discard', done: 'discarded' }, flags, (options) =>
    discardDeadLetters(session.store, { ...options, filter }),
  );
}

async function runOperation(
  session: Session,
  operation: Operation,
  flags: OperationFlags,
  work: (options: Omit<ReplayDiscardOptions, 'filter'>) => Promise<DeadLetterReport>,
): Promise<void> {
  const { store, json } = session;
  const { stdout, stderr, clock, signal } = session.host;
  const { max = Infinity, rate = Infinity, window } = flags;
  const dryRun = flags.yes !== true;
  const total = await store.count();
  if (!json) stdout.write(planLine(store, operation, { dryRun, total, max }));
  const bar = new ProgressBar({ output: stderr, clock, total, max, done: operation.done });
  let progress: DeadLetterProgress = { seen: 0, matched: 0, done: 0 };
  const onProgress = (now: DeadLetterProgress): void => {
    progress = now;
    bar.show(now);
  };
  const writeReport = (outcome: Outcome): void => {
    bar.end();
    const { name: from, source, group = null } = store;
    const document = { action: operation.name, from, source, group, ...outcome };
    stdout.write(json ? jsonLine(document) : reportView(operation, outcome));
  };
  try {
    const report = await work({ signal, dryRun, max, rate, window, clock, onProgress });
    writeReport({ ...report, complete: !signal.aborted });
  } catch (error) {
    writeReport({ ...progress, dryRun, complete: false });
    throw error;
  } finally {
    bar.end();
  }
}
