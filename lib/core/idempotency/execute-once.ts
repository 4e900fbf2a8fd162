import type { BeginOutcome, StoredReply } from './idempotency-store.js';
import { Lease, type LeaseSettings } from './lease.js';

export interface ExecuteOnceSettings extends LeaseSettings {
  /** When the store cannot say whether the work was done: leave it undone, or do it at the risk of doing it twice. */
  readonly onStoreError: 'fail' | 'process';
  /** Calls back when the work may go on but nobody waits for it any more: its lease is then left to run out. Gives what ends the watch. */
  readonly onGivenUp?: (stopRenewing: () => void) => () => void;
}

/** What the work came to. */
export interface WorkResult<T> {
  readonly value: T;
  /** What its duplicates are answered with. */
  readonly reply?: StoredReply | undefined;
  /** Nothing was thrown and yet the work is not done, e.g. because it will be tried again: the key becomes free. */
  readonly isUndone?: boolean;
}

/** How the store fared meanwhile; none of it changes what the work came to. */
export interface StoreReport {
  /** For a while the key was not ours: another owner may have worked at the same time. */
  readonly leaseLost: boolean;
  /** Why the store does not know of this run or of its end, so that a duplicate may run or wait for the lease; else undefined. */
  readonly storeError: unknown;
}

export type ExecuteOnceResult<T> =
  | ({ readonly kind: 'ran'; readonly value: T } & StoreReport)
  | ({ readonly kind: 'failed'; readonly error: unknown } & StoreReport)
  | { readonly kind: 'duplicate'; readonly reply: StoredReply | undefined }
  | { readonly kind: 'in-progress' }
  | { readonly kind: 'store-unavailable'; readonly error: unknown };

/**
 * Does the work unless it was done before or is being done elsewhere, and has the store remember what became of it. Neither the
 * work's failure nor the store's rejects; the caller decides what each outcome means for the message.
 *
 * @throws StorkConfigError for settings that no store can take
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
    return toOutcome(await attempt(work), { leaseLost: false, storeError: error });
  }
  if (begun.state === 'in-progress') return { kind: 'in-progress' };
  if (begun.state === 'done') return { kind: 'duplicate', reply: begun.reply };
  const unwatch = settings.onGivenUp?.(() => lease.stopRenewing());
  const end = await attempt(work);
  unwatch?.();
  const isDone = end.ok && end.result.isUndone !== true;
  const written = isDone ? await lease.complete(end.result.reply) : await lease.release();
  const storeError = 'error' in written ? written.error : undefined;
  return toOutcome(end, { leaseLost: lease.wasLost, storeError });
}

type End<T> =
  { readonly ok: true; readonly result: WorkResult<T> } | { readonly ok: false; readonly error: unknown };

async function attempt<T>(work: () => Promise<WorkResult<T>>): Promise<End<T>> {
  try {
    return { ok: true, result: await work() };
  } catch (error) {
    return { ok: false, error };
  }
}

function toOutcome<T>(end: End<T>, report: StoreReport): ExecuteOnceResult<T> {
  return end.ok
    ? { kind: 'ran', value: end.result.value, ...report }
    : { kind: 'failed', error: end.error, ...report };
}
