import { sendReply } from './caller.js';
import type { Delivery } from './delivery.js';
import { isUnfinished, stepFrom, type RetryScope } from './retries.js';
import { isAcknowledged, isDecided, wantsBack, type Run, type RunFields } from './run.js';
import { acknowledge, giveBack, type Held, type Settled, type SettlementScope } from './settlement.js';

/** Under `manual`: a message whose handlers have ended, and whose own words settle it whenever they come. */
export interface KeptMessage extends RunFields {
  readonly scope: SettlementScope & RetryScope;
}

/** How it ends like any other message. */
export interface OrdinaryEnds {
  readonly settle: () => Settled | Promise<Settled>;
  readonly abandon: () => Settled;
}

/** Under `manual` an acknowledgement waits for nothing but those of the message's other handlers. */
export function acknowledgeEarly(delivery: Delivery, runs: readonly Run[], scope: SettlementScope): void {
  if (runs.every(isAcknowledged)) acknowledge(delivery, scope);
}

/** Every handler has ended, and not every one has said what becomes of the message. */
export async function hold(kept: KeptMessage, runs: readonly Run[], ends: OrdinaryEnds): Promise<Held> {
  const { answer, delivery, scope } = kept;
  if (answer !== undefined) await sendReply(answer, scope);
  const later = new Promise<void>((resolve) => {
    const settleOnceDecided = (): void => {
      acknowledgeEarly(delivery, runs, scope);
      if (runs.every(isDecided)) resolve();
    };
    for (const run of runs) run.onVerb = settleOnceDecided;
    delivery.onAbort(resolve);
    // The reply may have taken its time.
    if (runs.every(isDecided)) resolve();
  });
  return { later: later.then(() => settleHeld(kept, runs, ends)) };
}

async function settleHeld(
  { delivery, scope }: KeptMessage,
  runs: readonly Run[],
  { settle, abandon }: OrdinaryEnds,
): Promise<Settled> {
  if (delivery.aborted && !delivery.isFinal) return abandon();
  if (runs.some(wantsBack)) return giveBack(delivery, scope);
  const asking = runs.find(isUnfinished);
  const waitMs = asking === undefined ? undefined : await stepFrom(asking, scope);
  if (waitMs === undefined) return settle();
  if (!(await scope.naps.sleep(waitMs, delivery))) return abandon();
  scope.counters.add('retried');
  // Its slot and its lane are somebody else's by now: it gets in line for others.
  delivery.uncountedRuns++;
  return 'again';
}
