import { expect, it } from 'vitest';
import { LeaseRenewals } from '../../../../lib/core/idempotency/lease-renewals.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { collectGarbage } from '../harness.js';

function newLease() {
  return { stopIfAbandoned() {}, renew: async () => true };
}

it('a stopped lease does not stay in memory while another one is held', async () => {
  const clock = new VirtualClock();
  const renewals = new LeaseRenewals(clock, 60_000);
  const held = renewals.add(newLease());
  const addAndRemove = (): WeakRef<object> => {
    const lease = newLease();
    renewals.remove(renewals.add(lease));
    return new WeakRef(lease);
  };
  const stopped = addAndRemove();
  await collectGarbage();
  expect(stopped.deref()).toBeUndefined();
  renewals.remove(held);
  expect(clock.pendingTimers).toBe(0);
});
