import { describe, expect, it } from 'vitest';
import {
  readDeliveryMetadata,
  type DeliveryMetadata,
} from '../../../../lib/core/message/delivery-metadata.js';
import type { MessageHeaders } from '../../../../lib/core/message/headers.js';
import type { ReplyTarget } from '../../../../lib/core/port/message.js';
import { newMessage } from '../harness.js';

const address: ReplyTarget = { kind: 'address', address: 'inbox-1' };
const driver = { parseReplyAddress: (): ReplyTarget => address };

function metadataOf(...given: Parameters<typeof readDeliveryMetadata>): DeliveryMetadata {
  const metadata = readDeliveryMetadata(...given);
  if (metadata instanceof Promise) throw new Error('the driver was not to be awaited');
  return metadata;
}

function read(headers: MessageHeaders) {
  return metadataOf(newMessage({ headers }), driver);
}

describe('readDeliveryMetadata', () => {
  it('reads a message without stork headers as a first attempt for all handlers', () => {
    expect(read({})).toEqual({
      attempt: 1,
      firstFailedAt: undefined,
      deadline: undefined,
      handlerId: undefined,
      reply: address,
    });
  });

  it('reads the stork headers', () => {
    const headers = {
      'stork-attempt': '3',
      'stork-first-failed-at': '2026-01-01T00:00:00.000Z',
      'stork-deadline': '2026-01-01T00:01:00.000Z',
      'stork-handler': 'Orders.paid',
    };
    expect(read(headers)).toEqual({
      attempt: 3,
      firstFailedAt: Date.UTC(2026, 0, 1),
      deadline: Date.UTC(2026, 0, 1, 0, 1),
      handlerId: 'Orders.paid',
      reply: address,
    });
  });

  it('treats invalid values as absent', () => {
    const headers: MessageHeaders = {
      'stork-attempt': '-4',
      'stork-first-failed-at': 'yesterday',
      'stork-deadline': 1_767_225_600_000,
      'stork-handler': { id: 'x' },
    };
    expect(read(headers)).toEqual({
      attempt: 1,
      firstFailedAt: undefined,
      deadline: undefined,
      handlerId: undefined,
      reply: address,
    });
  });

  it.each(['0', '1e9', '99999999999999999999', '', 'NaN'])(
    'counts from 1 where the attempt is %j',
    (attempt) => {
      expect(read({ 'stork-attempt': attempt }).attempt).toBe(1);
    },
  );

  it('reads a dead letter as an ordinary message: first attempt, no deadline, every handler, no reply', () => {
    const deadLetter = {
      'stork-death-reason': 'fatal',
      'stork-attempt': '5',
      'stork-deadline': '2020-01-01T00:00:00.000Z',
      'stork-handler': 'Orders.paid',
    };
    expect(read(deadLetter)).toMatchObject({
      attempt: 1,
      deadline: undefined,
      handlerId: undefined,
      reply: { kind: 'none' },
    });
  });

  it('does not parse the reply address of a dead letter', () => {
    const asked = {
      parseReplyAddress: (): ReplyTarget => {
        throw new Error('asked');
      },
    };
    const message = newMessage({ headers: { 'stork-death-reason': 'invalid' } });
    expect(metadataOf(message, asked).reply).toEqual({ kind: 'none' });
  });

  it('reads the deadline of a request only', () => {
    const headers = { 'stork-deadline': '2026-01-01T00:01:00.000Z' };
    const targets: ReplyTarget[] = [{ kind: 'none' }, { kind: 'forged', why: 'no inbox' }];
    for (const target of targets) {
      const metadata = metadataOf(newMessage({ headers }), { parseReplyAddress: () => target });
      expect(metadata.deadline).toBeUndefined();
    }
    expect(read(headers).deadline).toBe(Date.UTC(2026, 0, 1, 0, 1));
  });

  it('returns a forged reply address as the driver reports it', () => {
    const forged: ReplyTarget = { kind: 'forged', why: 'no inbox' };
    expect(metadataOf(newMessage(), { parseReplyAddress: () => forged }).reply).toBe(forged);
  });
});
