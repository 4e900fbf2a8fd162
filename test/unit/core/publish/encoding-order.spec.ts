import { expect, it } from 'vitest';
import { PublishCancellation } from '../../../../lib/core/port/publish-cancellation.js';
import { EncodingOrder } from '../../../../lib/core/publish/encoding-order.js';
import { newGate, settle } from '../harness.js';

it('a message that cannot be encoded lets none behind it overtake those before it', async () => {
  const order = new EncodingOrder();
  const log: string[] = [];
  const [first, gate] = [new Error('no schema'), newGate()];
  const note = (name: string, encoded: unknown): void => {
    Promise.resolve(encoded).then(
      () => log.push(name),
      () => log.push(`${name} fails`),
    );
  };
  note('a', order.inOrder(gate.promise, new PublishCancellation()));
  note('b', order.inOrder(Promise.reject(first), new PublishCancellation()));
  await settle();
  note('c', order.inOrder('c', new PublishCancellation()));
  await settle();
  expect(log).toEqual(['b fails']);
  gate.open();
  await settle();
  expect(log).toEqual(['b fails', 'a', 'c']);
  expect(order.inOrder('d', new PublishCancellation())).toBe('d');
});

it('a message that is cancelled while it is encoded delays no other', async () => {
  const order = new EncodingOrder();
  const [hanging, slow] = [newGate(), newGate<string>()];
  const [first, second] = [new PublishCancellation(), new PublishCancellation()];
  void order.inOrder(hanging.promise, first);
  let sent: unknown;
  void Promise.resolve(order.inOrder(slow.promise, second)).then((message) => (sent = message));
  slow.open('second');
  await settle();
  expect([sent, second.isEncoding]).toEqual([undefined, true]);
  expect(first.cancel()).toBe(true);
  await settle();
  expect([sent, second.isEncoding]).toEqual(['second', false]);
  expect(order.inOrder('third', new PublishCancellation())).toBe('third');
});
