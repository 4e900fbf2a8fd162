import { describe, expect, it } from 'vitest';
import { readReplyKind } from '../../../../lib/core/port/message.js';

describe('readReplyKind', () => {
  it.each(['value', 'item', 'end', 'error'])('reads %s', (kind) => {
    expect(readReplyKind(kind)).toBe(kind);
  });

  it.each([undefined, '', 'END', 'items', '__proto__'])('takes %j for a plain value', (text) => {
    expect(readReplyKind(text)).toBe('value');
  });
});
