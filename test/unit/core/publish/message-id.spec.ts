import { expect, it } from 'vitest';
import type { CorrelationContext } from '../../../../lib/core/publish/correlation-context.js';
import { derivedMessageId } from '../../../../lib/core/publish/message-id.js';

const newAttempt = (fields: Partial<CorrelationContext> = {}): CorrelationContext => ({
  correlationId: 'c-1',
  messageId: 'm-1',
  handlerId: 'Orders.created',
  ...fields,
});
const message = (key: string) => ({ pattern: 'order.paid', key, body: Buffer.from('1') });

it('is the same in each attempt, and different for every other message', () => {
  const ids = (attempt: CorrelationContext) =>
    ['a', 'b', 'a'].map((key) => derivedMessageId(attempt, message(key)));
  expect(ids(newAttempt())).toEqual(ids(newAttempt()));
  const all = [
    ...ids(newAttempt()),
    ...ids(newAttempt({ messageId: 'm-2' })),
    ...ids(newAttempt({ handlerId: 'Orders.audited' })),
  ];
  expect(new Set(all).size).toBe(9);
});

it('is undefined outside of an attempt, and if the message of the attempt has no id', () => {
  for (const attempt of [
    undefined,
    newAttempt({ handlerId: undefined }),
    newAttempt({ messageId: undefined }),
  ])
    expect(derivedMessageId(attempt, message('a'))).toBeUndefined();
});

it('ends with 10 000 different messages, but not for those among them', () => {
  const attempt = newAttempt();
  for (let n = 0; n < 10_000; n++) derivedMessageId(attempt, message(String(n)));
  expect(derivedMessageId(attempt, message('new'))).toBeUndefined();
  expect(derivedMessageId(attempt, message('0'))).toBeDefined();
});
