import { describe, expect, it } from 'vitest';
import type { RepublishedMessage } from '../../../../lib/core/port/delivery.js';
import { newDelivery, newGate, settle } from '../harness.js';

const first: RepublishedMessage = { to: 'dead-letter', headers: { a: '1' } };
const second: RepublishedMessage = { to: 'dead-letter', headers: { a: '2' } };
const republished = [first];

describe('Delivery', () => {
  it('is open until it is settled', () => {
    const { delivery } = newDelivery();
    expect(delivery.open).toBe(true);
    delivery.ack();
    expect(delivery.open).toBe(false);
  });

  it('is settled once; a second settlement returns false and has no effect', async () => {
    const acked = newDelivery();
    expect(acked.delivery.ack()).toBe(true);
    expect([
      acked.delivery.ack(),
      acked.delivery.requeue(),
      await acked.delivery.republishThenAck(republished),
    ]).toEqual([false, false, false]);
    expect(acked.source.events).toEqual(['ack 1']);

    const returned = newDelivery();
    expect(returned.delivery.requeue()).toBe(true);
    expect([returned.delivery.requeue(), returned.delivery.ack()]).toEqual([false, false]);
    expect(returned.source.events).toEqual(['requeue 1']);
  });

  it('cannot be settled in any way after its session has ended', async () => {
    const { delivery, session, source } = newDelivery();
    session.end();
    expect(delivery.open).toBe(false);
    expect(await delivery.republishThenAck(republished)).toBe(false);
    expect([delivery.ack(), delivery.requeue()]).toEqual([false, false]);
    expect(source.events).toEqual([]);
  });
});

describe('an abort', () => {
  it('aborts the signal, whether it was asked for before or after, and settles nothing', () => {
    const { delivery, source } = newDelivery();
    const { signal } = delivery;
    expect([delivery.aborted, signal.aborted]).toEqual([false, false]);
    delivery.abort();
    expect([delivery.aborted, signal.aborted, delivery.signal]).toEqual([true, true, signal]);
    const late = newDelivery().delivery;
    late.abort();
    expect(late.signal.aborted).toBe(true);
    expect([delivery.open, source.events]).toEqual([true, []]);
    expect(delivery.ack()).toBe(true);
  });

  it('tells every listener once, also one that comes afterwards', () => {
    const { delivery } = newDelivery();
    const told: string[] = [];
    delivery.onAbort(() => told.push('first'));
    delivery.onAbort(() => told.push('second'));
    delivery.abort();
    delivery.abort();
    delivery.onAbort(() => told.push('late'));
    expect(told).toEqual(['first', 'second', 'late']);
  });

  it('does not follow from the end of the session: the dispatcher decides', () => {
    const { delivery, session } = newDelivery();
    session.end();
    expect(delivery.aborted).toBe(false);
  });

  it('creates no signal before it is read', () => {
    const Original = globalThis.AbortController;
    let made = 0;
    globalThis.AbortController = class extends Original {
      constructor() {
        super();
        made++;
      }
    };
    try {
      const { delivery } = newDelivery();
      delivery.abort();
      expect(made).toBe(0);
      expect([delivery.signal.aborted, delivery.signal.aborted, made]).toEqual([true, true, 1]);
    } finally {
      globalThis.AbortController = Original;
    }
  });
});

describe('republishThenAck', () => {
  it('confirms the republished messages first, all at once, then acknowledges', async () => {
    const { delivery, source } = newDelivery();
    const gate = newGate();
    source.gate = gate.promise;
    const done = delivery.republishThenAck([first, second]);
    await settle();
    expect(source.events).toEqual(['republish 1', 'republish 1']);
    expect(delivery.open).toBe(true);
    gate.open();
    expect(await done).toBe(true);
    expect(source.events).toEqual(['republish 1', 'republish 1', 'ack 1']);
    expect(source.republished).toEqual([first, second]);
    expect(delivery.open).toBe(false);
  });

  it('rejects and stays open when a republished message could not be confirmed, so it can be retried', async () => {
    const { delivery, source } = newDelivery();
    source.refusals = 1;
    await expect(delivery.republishThenAck(republished)).rejects.toThrow('the broker rejects it');
    expect(delivery.open).toBe(true);
    expect(await delivery.republishThenAck(republished)).toBe(true);
    expect(source.events).toEqual(['republish 1', 'republish 1', 'ack 1']);
  });

  it('tries again only those that are not confirmed', async () => {
    const { delivery, source } = newDelivery();
    const third: RepublishedMessage = { to: 'dead-letter', headers: { a: '3' } };
    source.refusals = 2;
    await expect(delivery.republishThenAck([first, second, third])).rejects.toThrow('rejects it');
    expect(source.republished).toEqual([third]);
    source.refusals = 1;
    await expect(delivery.republishThenAck([first, second, third])).rejects.toThrow('rejects it');
    expect(source.republished).toEqual([third, second]);
    expect(await delivery.republishThenAck([first, second, third])).toBe(true);
    expect(source.republished).toEqual([third, second, first]);
    expect(source.events).toEqual([...Array<string>(6).fill('republish 1'), 'ack 1']);
  });

  it('waits for every republished message before it rejects, or a retry would repeat those on their way', async () => {
    const { delivery, source } = newDelivery();
    const gate = newGate();
    const copy = source.republish.bind(source);
    source.republish = async (of, which) => {
      if (which === second) await gate.promise;
      await copy(of, which);
    };
    source.refusals = 1;
    let rejected = false;
    const done = delivery.republishThenAck([first, second]).catch(() => (rejected = true));
    await settle();
    expect(rejected).toBe(false);
    gate.open();
    await done;
    expect([rejected, source.republished]).toEqual([true, [second]]);
  });

  it('leaves a delivery whose republish failed open, so that it can be requeued', async () => {
    const { delivery, source } = newDelivery();
    source.refusals = 1;
    await expect(delivery.republishThenAck(republished)).rejects.toThrow('rejects it');
    expect(delivery.requeue()).toBe(true);
    expect(source.events).toEqual(['republish 1', 'requeue 1']);
  });

  it('cannot be settled while republished messages are unconfirmed', async () => {
    const { delivery, source } = newDelivery();
    const gate = newGate();
    source.gate = gate.promise;
    const done = delivery.republishThenAck(republished);
    expect([delivery.requeue(), delivery.ack(), await delivery.republishThenAck(republished)]).toEqual([
      false,
      false,
      false,
    ]);
    gate.open();
    expect(await done).toBe(true);
    expect(source.events).toEqual(['republish 1', 'ack 1']);
  });

  it('acknowledges nothing when the session ended while republished messages were on their way', async () => {
    const { delivery, source, session } = newDelivery();
    const gate = newGate();
    source.gate = gate.promise;
    const done = delivery.republishThenAck(republished);
    session.end();
    expect(delivery.open).toBe(false);
    gate.open();
    expect(await done).toBe(false);
    expect(source.events).toEqual(['republish 1']);
    expect(delivery.requeue()).toBe(false);
  });

  it('rejects also when the session ended, if the republished messages failed', async () => {
    const { delivery, source, session } = newDelivery();
    const gate = newGate();
    source.gate = gate.promise;
    source.refusals = 1;
    const done = delivery.republishThenAck(republished);
    session.end();
    gate.open();
    await expect(done).rejects.toThrow('rejects it');
    expect(delivery.open).toBe(false);
    expect(source.events).toEqual(['republish 1']);
  });
});

describe('a delivery that is acknowledged early', () => {
  it('never reaches its source again, and is settled here alone', async () => {
    const { delivery, source } = newDelivery();
    expect(delivery.isEarlyAcked).toBe(false);
    expect(await delivery.ackEarly()).toBe(true);
    expect([delivery.isEarlyAcked, delivery.open, delivery.requeue()]).toEqual([true, true, false]);
    expect([delivery.ack(), delivery.open, delivery.ack()]).toEqual([true, false, false]);
    expect(source.events).toEqual(['ackEarly 1']);
  });

  it('does not depend on its session: its dead letter is still published', async () => {
    const { delivery, session, source } = newDelivery();
    await delivery.ackEarly();
    session.end();
    expect(delivery.open).toBe(true);
    expect(await delivery.republishThenAck(republished)).toBe(true);
    expect(source.events).toEqual(['ackEarly 1', 'republish 1']);
  });

  it('is not, where it was settled, lost or aborted before', async () => {
    const [settled, lost, aborted] = [newDelivery(), newDelivery(), newDelivery()];
    settled.delivery.requeue();
    lost.session.end();
    aborted.delivery.abort();
    for (const { delivery, source } of [settled, lost, aborted]) {
      expect([await delivery.ackEarly(), delivery.isEarlyAcked]).toEqual([false, false]);
      expect(source.events).not.toContain('ackEarly 1');
    }
  });

  it('is not, when the source rejects or never settles; it cannot be requeued meanwhile', async () => {
    const refused = newDelivery();
    refused.source.ackEarly = () => Promise.reject(new Error('gone'));
    expect([await refused.delivery.ackEarly(), refused.delivery.isEarlyAcked]).toEqual([false, false]);
    const silent = newDelivery();
    silent.source.ackEarly = () => new Promise(() => {});
    const earlyAck = silent.delivery.ackEarly();
    expect([silent.delivery.requeue(), silent.delivery.ack()]).toEqual([false, false]);
    silent.session.end();
    silent.delivery.abort();
    expect([await earlyAck, silent.delivery.isEarlyAcked]).toEqual([false, false]);
    expect(silent.source.events).toEqual([]);
  });
});
