import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { Acknowledger } from '../../../../lib/rabbitmq/consume/acknowledger.js';

/** The broker's side of a channel: which delivery tags are settled, and how. */
class Channel {
  readonly settled = new Map<number, 'ack' | 'nack'>();
  frames = 0;

  constructor(readonly delivered: number) {}

  ack(tag: number, multiple: boolean): void {
    this.frames++;
    for (let one = multiple ? 1 : tag; one <= tag; one++) this.#settle(one, 'ack', multiple);
  }

  nack(tag: number): void {
    this.frames++;
    this.#settle(tag, 'nack', false);
  }

  #settle(tag: number, how: 'ack' | 'nack', isFolded: boolean): void {
    if (this.settled.has(tag)) {
      // RabbitMQ closes the channel on an unknown tag; `multiple` skips settled tags.
      if (isFolded) return;
      throw new Error(`tag ${tag} settled twice`);
    }
    if (tag > this.delivered) throw new Error(`tag ${tag} was never delivered`);
    this.settled.set(tag, how);
  }
}

const steps = fc.array(fc.record({ tag: fc.nat(29), how: fc.constantFrom('ack', 'nack', 'flush') }), {
  maxLength: 60,
});

it('settles every delivery exactly once, as ack or nack, however it batches', () => {
  fc.assert(
    fc.property(steps, (given) => {
      const channel = new Channel(30);
      const acknowledger = new Acknowledger(channel);
      const wanted = new Map<number, string>();
      for (const { tag: index, how } of given) {
        const tag = index + 1;
        if (how === 'flush') acknowledger.flush();
        else if (!wanted.has(tag)) {
          wanted.set(tag, how);
          if (how === 'ack') acknowledger.ack(tag);
          else acknowledger.nack(tag);
        }
      }
      acknowledger.flush();
      expect(new Map([...channel.settled].toSorted())).toEqual(new Map([...wanted].toSorted()));
    }),
  );
});

it('acks a contiguous range with one frame, and does not wait for a gap to close', () => {
  const channel = new Channel(5);
  const acknowledger = new Acknowledger(channel);
  for (const tag of [3, 1, 2, 5]) acknowledger.ack(tag);
  acknowledger.flush();
  expect([...channel.settled.keys()].toSorted()).toEqual([1, 2, 3, 5]);
  expect(channel.frames).toBe(2);
});

it('sends the acks at the end of the turn, and none after the channel is closed', async () => {
  const channel = new Channel(2);
  const acknowledger = new Acknowledger(channel);
  acknowledger.ack(1);
  await new Promise(setImmediate);
  expect([...channel.settled.keys()]).toEqual([1]);
  acknowledger.ack(2);
  acknowledger.discard();
  await new Promise(setImmediate);
  expect([...channel.settled.keys()]).toEqual([1]);
});
