import { describe, expect, it } from 'vitest';
import type { Delivery } from '../../../lib/core/delivery.js';
import type { Subscription } from '../../../lib/core/driver.js';
import { Epoch } from '../../../lib/core/epoch.js';
import { Intake, type IntakeFields } from '../../../lib/core/intake.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newDelivery, newGate, newMessage, settle, type Gate } from './harness.js';

class RecordingSubscription implements Subscription {
  readonly calls: string[] = [];
  stopped: Promise<void> = Promise.resolve();
  pause(): void {
    this.calls.push('pause');
  }
  resume(): void {
    this.calls.push('resume');
  }
  stop(): Promise<void> {
    this.calls.push('stop');
    return this.stopped;
  }
}

function newBench(fields: Partial<IntakeFields> = {}) {
  const clock = new VirtualClock();
  const released: number[] = [];
  const started: number[] = [];
  const gates = new Map<number, Gate>();
  const intake = new Intake({
    concurrency: 2,
    pausesWhenFull: true,
    clock,
    process: (delivery: Delivery) => {
      started.push(delivery.tag);
      const gate = newGate();
      gates.set(delivery.tag, gate);
      return gate.promise;
    },
    release: (delivery) => {
      released.push(delivery.tag);
      delivery.requeue();
    },
    ...fields,
  });
  const subscription = new RecordingSubscription();
  const deliver = (tag: number, lane?: string, bytes = 8, epoch = new Epoch()): Delivery => {
    const message = newMessage({ body: Buffer.alloc(bytes) });
    const { delivery } = newDelivery({ tag, lane, message, epoch });
    intake.deliver(delivery);
    return delivery;
  };
  const end = async (tag: number): Promise<void> => {
    gates.get(tag)!.open();
    await settle();
  };
  return { clock, intake, subscription, started, released, deliver, end };
}

function noteWhenDone(promise: Promise<void>): { done: boolean } {
  const note = { done: false };
  void promise.then(() => (note.done = true));
  return note;
}

describe('deliveries', () => {
  it('run up to the concurrency, those of one lane one after another', async () => {
    const { intake, started, deliver, end } = newBench();
    deliver(1, 'x');
    deliver(2, 'x');
    deliver(3, 'y');
    deliver(4);
    expect([started, intake.running, intake.inFlight]).toEqual([[1, 3], 2, 4]);
    await end(1);
    expect([started, intake.running, intake.inFlight]).toEqual([[1, 3, 4], 2, 3]);
    await end(3);
    expect(started).toEqual([1, 3, 4, 2]);
  });

  it('count as in flight until they are settled, a tombstone included', async () => {
    const { intake, end } = newBench();
    intake.deliver(newDelivery({ tag: 1, message: newMessage({ body: null }) }).delivery);
    expect(intake.inFlight).toBe(1);
    await end(1);
    expect(intake.inFlight).toBe(0);
  });

  it('whose epoch has ended while they waited do not run but are let go', async () => {
    const { intake, started, released, deliver, end } = newBench({ concurrency: 1 });
    const lost = new Epoch();
    deliver(1);
    deliver(2, 'x', 8, lost);
    deliver(3, 'x');
    lost.end();
    await end(1);
    expect([started, released, intake.inFlight]).toEqual([[1, 3], [2], 1]);
  });
});

describe('a full house', () => {
  it('pauses the source at the high mark and lets it go on at the low one', async () => {
    const { intake, subscription, deliver, end } = newBench();
    intake.attach(subscription);
    for (let tag = 1; tag <= 63; tag++) deliver(tag);
    expect(subscription.calls).toEqual([]);
    deliver(64);
    deliver(65);
    expect(subscription.calls).toEqual(['pause']);
    for (let tag = 1; tag <= 32; tag++) await end(tag);
    expect([subscription.calls, intake.inFlight]).toEqual([['pause'], 33]);
    await end(33);
    expect(subscription.calls).toEqual(['pause', 'resume']);
  });

  it('is full of bytes too', async () => {
    const { intake, subscription, deliver, end } = newBench();
    intake.attach(subscription);
    deliver(1, undefined, 64 * 1024 * 1024);
    expect(subscription.calls).toEqual(['pause']);
    await end(1);
    expect(subscription.calls).toEqual(['pause', 'resume']);
  });

  it('pauses nothing where a pause would give messages back', async () => {
    const { intake, subscription, deliver, end } = newBench({ pausesWhenFull: false });
    intake.attach(subscription);
    for (let tag = 1; tag <= 100; tag++) deliver(tag);
    for (let tag = 1; tag <= 100; tag++) await end(tag);
    expect(subscription.calls).toEqual([]);
  });

  it('pauses a source whose subscription comes after its first deliveries', () => {
    const { intake, subscription, deliver } = newBench();
    for (let tag = 1; tag <= 64; tag++) deliver(tag);
    intake.attach(subscription);
    expect(subscription.calls).toEqual(['pause']);
  });
});

describe('a dead letter that cannot be written', () => {
  it('pauses the source, also where a full house does not, until the last of several is written', () => {
    const { intake, subscription } = newBench({ pausesWhenFull: false });
    intake.attach(subscription);
    intake.writingBlocked(true);
    intake.writingBlocked(true);
    expect(subscription.calls).toEqual(['pause']);
    intake.writingBlocked(false);
    expect(subscription.calls).toEqual(['pause']);
    intake.writingBlocked(false);
    expect(subscription.calls).toEqual(['pause', 'resume']);
  });

  it('keeps a source paused that has room again, and the other way round', async () => {
    const { intake, subscription, deliver, end } = newBench();
    intake.attach(subscription);
    deliver(1, undefined, 64 * 1024 * 1024);
    intake.writingBlocked(true);
    await end(1);
    expect(subscription.calls).toEqual(['pause']);
    deliver(2, undefined, 64 * 1024 * 1024);
    intake.writingBlocked(false);
    expect(subscription.calls).toEqual(['pause']);
    await end(2);
    expect(subscription.calls).toEqual(['pause', 'resume']);
  });
});

describe('halt', () => {
  it('starts nothing more, waits for what runs, keeps what waits, and is ended by proceed', async () => {
    const { intake, started, released, deliver, end } = newBench({ concurrency: 1 });
    deliver(1);
    deliver(2);
    const halted = noteWhenDone(intake.halt());
    await settle();
    expect(halted.done).toBe(false);
    await end(1);
    deliver(3);
    expect([halted.done, started, released]).toEqual([true, [1], []]);
    intake.proceed();
    expect(started).toEqual([1, 2]);
  });

  it('is followed by deliveries of the epochs that still live', async () => {
    const { intake, started, released, deliver } = newBench();
    const lost = new Epoch();
    await intake.halt();
    deliver(1, 'x', 8, lost);
    deliver(2, 'x');
    deliver(3, 'y', 8, lost);
    lost.end();
    intake.proceed();
    await settle();
    expect([started, released, intake.inFlight]).toEqual([[2], [1, 3], 1]);
  });
});

describe('drain', () => {
  it('stops the source, gives back what has not begun, and waits for what has', async () => {
    const { clock, intake, subscription, started, released, deliver, end } = newBench();
    intake.attach(subscription);
    const [running, , waiting] = [deliver(1, 'x'), deliver(2), deliver(3, 'x'), deliver(4)];
    const abandoned: string[] = [];
    const drained = noteWhenDone(intake.drain(10_000, () => abandoned.push('abandon')));
    await settle();
    expect(subscription.calls).toEqual(['stop']);
    expect(released.toSorted()).toEqual([3, 4]);
    expect([drained.done, running.open, waiting.open, intake.inFlight]).toEqual([false, true, false, 2]);
    await end(1);
    await clock.advance(5_000);
    expect(drained.done).toBe(false);
    await end(2);
    expect([drained.done, started, abandoned, intake.inFlight]).toEqual([true, [1, 2], [], 0]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('gives back at once what still arrives, also while the source stops', async () => {
    const { intake, subscription, started, released, deliver } = newBench();
    const stopping = newGate();
    subscription.stopped = stopping.promise;
    intake.attach(subscription);
    const drained = noteWhenDone(intake.drain(10_000, () => {}));
    deliver(1);
    expect([released, started, intake.inFlight]).toEqual([[1], [], 0]);
    expect(drained.done).toBe(false);
    stopping.open();
    await settle();
    deliver(2);
    expect([released, drained.done]).toEqual([[1, 2], true]);
  });

  it('abandons what still runs after the limit, and then gives that back too', async () => {
    const { clock, intake, subscription, released, deliver, end } = newBench();
    intake.attach(subscription);
    const [first, second] = [deliver(1), deliver(2)];
    const atAbandon: number[][] = [];
    const drained = noteWhenDone(intake.drain(10_000, () => atAbandon.push([...released])));
    await clock.advance(9_999);
    expect([drained.done, atAbandon]).toEqual([false, []]);
    await clock.advance(1);
    expect([drained.done, atAbandon, released]).toEqual([true, [[]], [1, 2]]);
    expect([first.ack(), second.ack()]).toEqual([false, false]);
    await end(1);
    await end(2);
    expect([released, intake.inFlight]).toEqual([[1, 2], 0]);
  });

  it('releases nothing that has settled itself before the limit', async () => {
    const { clock, intake, subscription, released, deliver, end } = newBench();
    intake.attach(subscription);
    deliver(1);
    deliver(2);
    void intake.drain(10_000, () => {});
    await end(1);
    await clock.advance(10_000);
    expect(released).toEqual([2]);
  });

  it('starts nothing again, whoever says proceed, and resumes nothing', async () => {
    const { intake, subscription, started, deliver, end } = newBench();
    intake.attach(subscription);
    deliver(1, undefined, 64 * 1024 * 1024);
    const drained = noteWhenDone(intake.drain(10_000, () => {}));
    await settle();
    intake.proceed();
    await end(1);
    intake.proceed();
    deliver(2);
    expect([drained.done, started, subscription.calls]).toEqual([true, [1], ['pause', 'stop']]);
  });

  it('starts nothing that waited, also while the source stops', async () => {
    const { intake, subscription, started, released, deliver } = newBench();
    const stopping = newGate();
    subscription.stopped = stopping.promise;
    intake.attach(subscription);
    deliver(1);
    void intake.halt();
    deliver(2);
    const drained = noteWhenDone(intake.drain(10_000, () => {}));
    deliver(3);
    intake.proceed();
    stopping.open();
    await settle();
    expect([started, released.toSorted(), drained.done]).toEqual([[1], [2, 3], false]);
  });

  it('can be called again', async () => {
    const { intake, subscription, deliver, end } = newBench();
    intake.attach(subscription);
    deliver(1);
    const notes = [intake.drain(10_000, () => {}), intake.drain(10_000, () => {})].map(noteWhenDone);
    await settle();
    expect(notes.map(({ done }) => done)).toEqual([false, false]);
    await end(1);
    expect(notes.map(({ done }) => done)).toEqual([true, true]);
    await intake.drain(10_000, () => {});
  });

  it('works where nothing was ever subscribed', async () => {
    await expect(newBench().intake.drain(10_000, () => {})).resolves.toBeUndefined();
  });

  it('stops also a source whose subscription comes after it, or what it gives back would come again and again', async () => {
    const { intake, subscription } = newBench();
    await intake.drain(10_000, () => {});
    intake.attach(subscription);
    await settle();
    expect(subscription.calls).toContain('stop');
  });
});
