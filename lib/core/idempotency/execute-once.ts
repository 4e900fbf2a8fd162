import { andThen } from '../runtime/with-timeout.js';
import type { BeginOutcome, StoredReply } from './idempotency-store.js';
import { Lease, type LeaseSettings } from './lease.js';

export interface ExecuteOnceSettings extends LeaseSettings {
  /**
   * What happens when `begin` fails, so that it is unknown whether the work was done before. `fail`: the
   * work is not executed. `process`: it is executed, at the risk of a second execution.
   */
  readonly onStoreError: 'fail' | 'process';
  /**
   * Registers a listener for the moment from which the work may be abandoned while it still runs.
   *
   * @returns removes the listener
   */
  readonly onAbort?: (listener: () => void) => () => void;
}

export interface WorkResult<T> {
  readonly value: T;
  /** The reply that duplicates get. */
  readonly reply?: StoredReply | undefined;
  /**
   * The work did not throw, but is not completed either, e.g. because it will be retried. The key is
   * released.
   */
  readonly isIncomplete?: boolean;
}

/** Problems of the lease and of the store during the work. They do not change the result of the work. */
export interface StoreReport {
  /** The lease expired for a while: another owner may have worked at the same time. */
  readonly leaseLost: boolean;
  /**
   * Why the store has no record of the start or of the end of the work, else undefined. A duplicate may
   * then be executed, or wait until the lease expires.
   */
  readonly storeError: unknown;
}

export type ExecuteOnceResult<T> =
  | ({ readonly kind: 'executed'; readonly value: T } & StoreReport)
  | ({ readonly kind: 'failed'; readonly error: unknown } & StoreReport)
  | { readonly kind: 'duplicate'; readonly reply: StoredReply | undefined }
  | { readonly kind: 'in-progress' }
  | { readonly kind: 'store-unavailable'; readonly error: unknown };

/**
 * Executes the work unless the store says that it is completed or in progress elsewhere, and records the
 * outcome in the store. Failures of the work and of the store are results, not rejections: the caller
 * decides what each means for the message.
 *
 * @throws StorkConfigError for an invalid key, owner or duration
 */
export function executeOnce<T>(
  settings: ExecuteOnceSettings,
  work: Work<T>,
): ExecuteOnceResult<T> | Promise<ExecuteOnceResult<T>> {
  const lease = new Lease(settings);
  const unavailable = (error: unknown): ExecuteOnceResult<T> | Promise<ExecuteOnceResult<T>> => {
    if (settings.onStoreError === 'fail') return { kind: 'store-unavailable', error };
    return andThen(captureOutcome(work), (outcome) =>
      toResult(outcome, { leaseLost: false, storeError: error }),
    );
  };
  let begun: BeginOutcome | Promise<BeginOutcome>;
  try {
    begun = lease.begin();
  } catch (error) {
    return unavailable(error);
  }
  if (begun instanceof Promise)
    return begun.then((outcome) => executeBegun(outcome, lease, { settings, work }), unavailable);
  return executeBegun(begun, lease, { settings, work });
}

function executeBegun<T>(
  begun: BeginOutcome,
  lease: Lease,
  { settings, work }: { readonly settings: ExecuteOnceSettings; readonly work: Work<T> },
): ExecuteOnceResult<T> | Promise<ExecuteOnceResult<T>> {
  if (begun.state === 'in-progress') return { kind: 'in-progress' };
  if (begun.state === 'done') return { kind: 'duplicate', reply: begun.reply };
  const removeListener = settings.onAbort?.(() => lease.stopIfAbandoned());
  return andThen(captureOutcome(work), (outcome) => {
    removeListener?.();
    const isCompleted = outcome.ok && outcome.result.isIncomplete !== true;
    return andThen(isCompleted ? lease.complete(outcome.result.reply) : lease.release(), (write) =>
      toResult(outcome, {
        leaseLost: lease.wasLost,
        storeError: 'error' in write ? write.error : lease.renewError,
      }),
    );
  });
}

type Work<T> = () => WorkResult<T> | Promise<WorkResult<T>>;

type WorkOutcome<T> =
  { readonly ok: true; readonly result: WorkResult<T> } | { readonly ok: false; readonly error: unknown };

function captureOutcome<T>(work: Work<T>): WorkOutcome<T> | Promise<WorkOutcome<T>> {
  const failed = (error: unknown): WorkOutcome<T> => ({ ok: false, error });
  try {
    const result = work();
    return result instanceof Promise
      ? result.then((ended) => ({ ok: true, result: ended }), failed)
      : { ok: true, result };
  } catch (error) {
    return failed(error);
  }
}

function toResult<T>(outcome: WorkOutcome<T>, report: StoreReport): ExecuteOnceResult<T> {
  return outcome.ok
    ? { kind: 'executed', value: outcome.result.value, ...report }
    : { kind: 'failed', error: outcome.error, ...report };
}
