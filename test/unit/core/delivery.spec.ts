import { describe, expect, it } from 'vitest';
import type { Copy } from '../../../lib/core/driver.js';
import { newDelivery, newGate, settle } from './harness.js';

const copies: Copy[] = [{ to: 'dead-letter', headers: { a: '1' } }];

describe('Delivery', () => {
  it('is open until it is settled', () => {
    const { delivery } = newDelivery();
    expect(delivery.open).toBe(true);
    delivery.ack();
    expect(delivery.open).toBe(false);
  });

  it('is settled by the first who asks; whoever comes second gets false and nothing happens', async () => {
    const acked = newDelivery();
    expect(acked.delivery.ack()).toBe(true);
    expect([acked.delivery.ack(), acked.delivery.requeue(), await acked.delivery.ackAfter(copies)]).toEqual([
      false,
      false,
      false,
    ]);
    expect(acked.source.events).toEqual(['ack 1']);

    const returned = newDelivery();
    expect(returned.delivery.requeue()).toBe(true);
    expect([returned.delivery.requeue(), returned.delivery.ack()]).toEqual([false, false]);
    expect(returned.source.events).toEqual(['requeue 1']);
  });

  it('cannot be settled in any way after its epoch has ended', async () => {
    const { delivery, epoch, source } = newDelivery();
    epoch.end();
    expect(delivery.open).toBe(false);
    expect(await delivery.ackAfter(copies)).toBe(false);
    expect([delivery.ack(), delivery.requeue()]).toEqual([false, false]);
    expect(source.events).toEqual([]);
  });

  describe('ackAfter', () => {
    it('confirms the copies first, then acknowledges', async () => {
      const { delivery, source } = newDelivery();
      const gate = newGate();
      source.gate = gate.promise;
      const done = delivery.ackAfter(copies);
      await settle();
      expect(source.events).toEqual(['copy 1']);
      expect(delivery.open).toBe(true);
      gate.open();
      expect(await done).toBe(true);
      expect(source.events).toEqual(['copy 1', 'ack 1']);
      expect(source.copied).toEqual([copies]);
      expect(delivery.open).toBe(false);
    });

    it('rejects and stays open when a copy could not be confirmed, so it can be tried again', async () => {
      const { delivery, source } = newDelivery();
      source.refusals = 1;
      await expect(delivery.ackAfter(copies)).rejects.toThrow('the broker says no');
      expect(delivery.open).toBe(true);
      expect(await delivery.ackAfter(copies)).toBe(true);
      expect(source.events).toEqual(['copy 1', 'copy 1', 'ack 1']);
    });

    it('leaves a delivery whose copies failed to whoever gives it back', async () => {
      const { delivery, source } = newDelivery();
      source.refusals = 1;
      await expect(delivery.ackAfter(copies)).rejects.toThrow('no');
      expect(delivery.requeue()).toBe(true);
      expect(source.events).toEqual(['copy 1', 'requeue 1']);
    });

    it('lets nobody else settle while copies are on their way', async () => {
      const { delivery, source } = newDelivery();
      const gate = newGate();
      source.gate = gate.promise;
      const done = delivery.ackAfter(copies);
      expect([delivery.requeue(), delivery.ack(), await delivery.ackAfter(copies)]).toEqual([
        false,
        false,
        false,
      ]);
      gate.open();
      expect(await done).toBe(true);
      expect(source.events).toEqual(['copy 1', 'ack 1']);
    });

    it('acknowledges nothing when the epoch ended while copies were on their way', async () => {
      const { delivery, source, epoch } = newDelivery();
      const gate = newGate();
      source.gate = gate.promise;
      const done = delivery.ackAfter(copies);
      epoch.end();
      expect(delivery.open).toBe(false);
      gate.open();
      expect(await done).toBe(false);
      expect(source.events).toEqual(['copy 1']);
      expect(delivery.requeue()).toBe(false);
    });

    it('rejects also when the epoch ended, if the copies failed', async () => {
      const { delivery, source, epoch } = newDelivery();
      const gate = newGate();
      source.gate = gate.promise;
      source.refusals = 1;
      const done = delivery.ackAfter(copies);
      epoch.end();
      gate.open();
      await expect(done).rejects.toThrow('no');
      expect(delivery.open).toBe(false);
      expect(source.events).toEqual(['copy 1']);
    });
  });
});
