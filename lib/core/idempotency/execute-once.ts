import type { BeginOutcome, StoredReply } from './idempotency-store.js';
import { Lease, type LeaseSettings } from './lease.js';

export interface ExecuteOnceSettings extends LeaseSettings {
  /**
   * What happens when `begin` fails, so that it is unknown whether the work was done before. `fail`: the
   * work is not executed. `process`: it is executed, at the risk of a second execution.
   */
  readonly onStoreError: 'fail' | 'process';
  /**
   * Registers a listener for the moment when the work is abandoned while it still runs. The lease is then
   * left to expire.
   *
   * @returns removes the listener
   */
  readonly onAbandoned?: (stopRenewing: () => void) => () => void;
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
export async function executeOnce<T>(
  settings: ExecuteOnceSettings,
  work: () => Promise<WorkResult<T>>,
): Promise<ExecuteOnceResult<T>> {
  const lease = new Lease(settings);
  let begun: BeginOutcome;
  try {
    begun = await lease.begin();
  } catch (error) {
    if (settings.onStoreError === 'fail') return { kind: 'store-unavailable', error };
    return toResult(await captureOutcome(work), { leaseLost: false, storeError: error });
  }
  if (begun.state === 'in-progress') return { kind: 'in-progress' };
  if (begun.state === 'done') return { kind: 'duplicate', reply: begun.reply };
  const removeListener = settings.onAbandoned?.(() => lease.stopRenewing());
  const outcome = await captureOutcome(work);
  removeListener?.();
  const isCompleted = outcome.ok && outcome.result.isIncomplete !== true;
  const write = isCompleted ? await lease.complete(outcome.result.reply) : await lease.release();
  const storeError = 'error' in write ? write.error : undefined;
  return toResult(outcome, { leaseLost: lease.wasLost, storeError });
}

type WorkOutcome<T> =
  { readonly ok: true; readonly result: WorkResult<T> } | { readonly ok: false; readonly error: unknown };

async function captureOutcome<T>(work: () => Promise<WorkResult<T>>): Promise<WorkOutcome<T>> {
  try {
    return { ok: true, result: await work() };
  } catch (error) {
    return { ok: false, error };
  }
}

function toResult<T>(outcome: WorkOutcome<T>, report: StoreReport): ExecuteOnceResult<T> {
  return outcome.ok
    ? { kind: 'executed', value: outcome.result.value, ...report }
    : { kind: 'failed', error: outcome.error, ...report };
}
