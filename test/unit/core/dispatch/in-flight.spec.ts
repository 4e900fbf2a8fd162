import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InFlight, inFlightLimits, type InFlightLimits } from '../../../../lib/core/dispatch/in-flight.js';

function newInFlight(marks: InFlightLimits): { inFlight: InFlight; calls: string[] } {
  const calls: string[] = [];
  const inFlight = new InFlight(
    marks,
    () => calls.push('full'),
    () => calls.push('room'),
  );
  return { inFlight, calls };
}

const marks: InFlightLimits = { pauseAtMessages: 4, resumeAtMessages: 2, pauseAtBytes: 100 };

describe('InFlight', () => {
  it('is full at the upper limit of messages and has capacity again at the lower one', () => {
    const { inFlight, calls } = newInFlight(marks);
    for (let i = 0; i < 3; i++) inFlight.add(1);
    expect(calls).toEqual([]);
    inFlight.add(1);
    expect(calls).toEqual(['full']);
    inFlight.remove(1);
    expect(calls).toEqual(['full']);
    inFlight.remove(1);
    expect(calls).toEqual(['full', 'room']);
  });

  it('is full at the upper limit of bytes and has capacity again at half of it', () => {
    const { inFlight, calls } = newInFlight(marks);
    inFlight.add(51);
    expect(calls).toEqual([]);
    inFlight.add(49);
    expect(calls).toEqual(['full']);
    inFlight.remove(49);
    expect(calls).toEqual(['full']);
    inFlight.remove(51);
    expect(calls).toEqual(['full', 'room']);
  });

  it('has room at exactly half of the bytes', () => {
    const { inFlight, calls } = newInFlight(marks);
    inFlight.add(50);
    inFlight.add(50);
    inFlight.remove(50);
    expect(calls).toEqual(['full', 'room']);
  });

  it('needs room in messages and in bytes, whichever had filled it', () => {
    const { inFlight, calls } = newInFlight(marks);
    inFlight.add(99);
    for (let i = 0; i < 3; i++) inFlight.add(0);
    inFlight.remove(0);
    inFlight.remove(0);
    expect(calls).toEqual(['full']);
    inFlight.remove(99);
    expect(calls).toEqual(['full', 'room']);
  });

  it('does not alternate between its limits', () => {
    const { inFlight, calls } = newInFlight(marks);
    for (let i = 0; i < 4; i++) inFlight.add(1);
    for (let i = 0; i < 10; i++) {
      inFlight.remove(1);
      inFlight.add(1);
    }
    expect(calls).toEqual(['full']);
  });

  it('accepts one message larger than the limit, and resumes when it is settled', () => {
    const { inFlight, calls } = newInFlight(marks);
    inFlight.add(1_000);
    inFlight.remove(1_000);
    expect(calls).toEqual(['full', 'room']);
    expect([inFlight.messages, inFlight.bytes]).toEqual([0, 0]);
  });

  it('reports full and capacity alternately, exactly where a plain count crosses the limits', () => {
    const steps = fc.array(fc.record({ add: fc.boolean(), bytes: fc.nat(60), pick: fc.nat() }), {
      maxLength: 80,
    });
    fc.assert(
      fc.property(steps, (all) => {
        const { inFlight, calls } = newInFlight(marks);
        const expected: string[] = [];
        const held: number[] = [];
        for (const { add, bytes, pick } of all) {
          if (add) {
            held.push(bytes);
            inFlight.add(bytes);
          } else if (held.length > 0) {
            inFlight.remove(held.splice(pick % held.length, 1)[0]!);
          }
          const sum = held.reduce((a, b) => a + b, 0);
          const isFull = expected.at(-1) === 'full';
          if (!isFull && (held.length >= 4 || sum >= 100)) expected.push('full');
          if (isFull && held.length <= 2 && sum <= 50) expected.push('room');
          expect([inFlight.messages, inFlight.bytes]).toEqual([held.length, sum]);
          expect(calls).toEqual(expected);
        }
      }),
    );
  });
});

describe('inFlightLimits', () => {
  it('holds work for many keys even at a low concurrency', () => {
    expect(inFlightLimits(1)).toEqual({
      pauseAtMessages: 64,
      resumeAtMessages: 32,
      pauseAtBytes: 64 * 1024 * 1024,
    });
    expect(inFlightLimits(16).pauseAtMessages).toBe(64);
  });

  it('holds four times a high concurrency, and goes on at half of that', () => {
    expect(inFlightLimits(100)).toMatchObject({ pauseAtMessages: 400, resumeAtMessages: 200 });
  });
});
