import { expect, it } from 'vitest';
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
  note('a', order.inOrder(gate.promise));
  note('b', order.inOrder(Promise.reject(first)));
  await settle();
  note('c', order.inOrder('c'));
  await settle();
  expect(log).toEqual(['b fails']);
  gate.open();
  await settle();
  expect(log).toEqual(['b fails', 'a', 'c']);
  expect(order.inOrder('d')).toBe('d');
});
