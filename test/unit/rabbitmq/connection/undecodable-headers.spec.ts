import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  headersErrorOf,
  tolerateUndecodableHeaders,
} from '../../../../lib/rabbitmq/connection/undecodable-headers.js';
import { frame, header, headerFrame, integer, nested, sized } from '../../../support/amqp-bytes.js';
import { connectionOf } from '../../../support/amqp-frames.js';

const readable = header('tenant', sized('S', 'blue'));
const unknownType = header('odd', integer('L', 7));
const tooDeep = header('odd', nested('F', 9_000));
const readers = { type: 't', messageId: 'm', correlationId: 'c', replyTo: 'r', timestamp: 7n, appId: 'a' };
const read = { type: 't', messageId: 'm', correlationId: 'c', replyTo: 'r', timestamp: 7, appId: 'a' };

/** What the connection reads until it has no complete frame any more. */
function readAll(...chunks: readonly Buffer[]): readonly object[] {
  const { model, reader } = connectionOf(...chunks);
  tolerateUndecodableHeaders(model);
  const frames: object[] = [];
  for (let next = reader.recvFrame(); next !== false; next = reader.recvFrame()) frames.push(next);
  return frames;
}

const propertiesOf = (given: object): object => (given as { readonly fields: object }).fields;

describe('a header frame that amqplib cannot decode', () => {
  it.each([
    ['nested too deeply', tooDeep, 'call stack'],
    ['of a type that amqplib does not know', unknownType, 'Unexpected type tag "L"'],
  ])('is read without its headers: %s', (_, odd, why) => {
    for (const before of [{}, { contentType: 'text/plain' }, { contentType: 'a', contentEncoding: 'b' }]) {
      const [only, ...more] = readAll(
        headerFrame(3, { ...before, ...readers, headers: Buffer.concat([readable, odd]) }, 12),
      );
      expect(more).toEqual([]);
      expect(only).toMatchObject({
        channel: 3,
        size: 12,
        fields: { ...before, ...read, headers: undefined },
      });
      expect(headersErrorOf(propertiesOf(only!))).toContain(why);
    }
  });

  it('is read between others, however the bytes are cut', () => {
    const good = headerFrame(1, { ...readers, headers: readable }, 1);
    const bad = headerFrame(1, { ...readers, headers: unknownType }, 1);
    const body = frame(3, 1, Buffer.from('b'));
    const bytes = Buffer.concat([good, body, bad, body, bad, good, body]);
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: 6 });
    fc.assert(
      fc.property(cuts, (at) => {
        const edges = [0, ...at.toSorted((a, b) => a - b), bytes.length];
        const frames = readAll(...edges.slice(1).map((end, i) => bytes.subarray(edges[i], end)));
        const headers = { tenant: 'blue' };
        expect(frames).toMatchObject([
          { fields: { ...read, headers } },
          { content: Buffer.from('b') },
          { fields: { ...read, headers: undefined } },
          { content: Buffer.from('b') },
          { fields: { ...read, headers: undefined } },
          { fields: { ...read, headers } },
          { content: Buffer.from('b') },
        ]);
        expect(
          frames.map((one) => 'fields' in one && headersErrorOf(propertiesOf(one)) !== undefined),
        ).toEqual([false, false, true, false, true, false, false]);
      }),
    );
  });

  it('still fails where something else than its headers cannot be decoded', () => {
    const cut = (given: Buffer, bytes: number): Buffer => {
      const shorter = Buffer.concat([given.subarray(0, given.length - bytes - 1), given.subarray(-1)]);
      shorter.writeUInt32BE(shorter.length - 8, 3);
      return shorter;
    };
    const timestamp = 7n;
    expect(() => readAll(cut(headerFrame(1, { timestamp }, 1), 3))).toThrow(RangeError);
    expect(() => readAll(cut(headerFrame(1, { headers: unknownType, timestamp }, 1), 3))).toThrow(RangeError);
    expect(() => readAll(frame(2, 1, Buffer.alloc(3)))).toThrow(RangeError);
    expect(() => readAll(frame(1, 1, Buffer.from('ffffffff', 'hex')))).toThrow();
    expect(() =>
      readAll(Buffer.concat([headerFrame(1, { timestamp }, 1).subarray(0, -1), Buffer.from([0])])),
    ).toThrow('Invalid frame');
  });

  it('has no mark if its headers are decoded or absent', () => {
    const frames = readAll(headerFrame(1, { headers: readable }, 1), headerFrame(1, {}, 1));
    expect(frames.map((one) => headersErrorOf(propertiesOf(one)))).toEqual([undefined, undefined]);
  });
});
