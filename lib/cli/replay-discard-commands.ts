import {
  discardDeadLetters,
  replayDeadLetters,
  type DeadLetterProgress,
  type DeadLetterReport,
  type ReplayDiscardOptions,
} from '../core/dead-letter/admin/dead-letter-operations.js';
import { withTimeout } from '../core/runtime/with-timeout.js';
import type { DeadLetterFilter } from '../core/dead-letter/admin/dead-letter-filter.js';
import { jsonLine } from './views/dead-letter-json.js';
import { ProgressBar } from './views/progress-bar.js';
import { planLine, reportView, type Operation, type Outcome } from './views/report-view.js';
import { countStored, warn, type CommandResult, type Session } from './session.js';

export interface OperationFlags {
  readonly yes?: true;
  readonly max?: number;
  readonly rate?: number;
  readonly window?: number;
}

export interface ReplayFlags extends OperationFlags {
  readonly maxReplays: number;
}

export async function replay(
  session: Session,
  filter: DeadLetterFilter,
  flags: ReplayFlags,
): Promise<CommandResult> {
  const { store, host } = session;
  const { maxReplays } = flags;
  const warnings = await withTimeout(store.warnings(), { signal: host.signal });
  for (const line of warnings) warn(host, line);
  return runOperation(session, { name: 'replay', done: 'replayed' }, flags, (options) =>
    replayDeadLetters(store, { ...options, filter, maxReplays }),
  );
}

export function discard(
  session: Session,
  filter: DeadLetterFilter,
  flags: OperationFlags,
): Promise<CommandResult> {
  return runOperation(session, { name: 'discard', done: 'discarded' }, flags, (options) =>
    discardDeadLetters(session.store, { ...options, filter }),
  );
}

async function runOperation(
  session: Session,
  operation: Operation,
  flags: OperationFlags,
  work: (options: Omit<ReplayDiscardOptions, 'filter'>) => Promise<DeadLetterReport>,
): Promise<CommandResult> {
  const { store, json } = session;
  const { stdout, stderr, clock, signal } = session.host;
  const { max = Infinity, rate = Infinity, window } = flags;
  const dryRun = flags.yes !== true;
  const total = await countStored(session);
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
    return report.skipped === 0 ? 'complete' : 'incomplete';
  } catch (error) {
    writeReport({ ...progress, dryRun, complete: false });
    throw error;
  } finally {
    bar.end();
  }
}
