/** The kind that a `stork-reply` header names; anything else, and none, is a plain value: a foreign server writes no header. */
export function readReplyKind(text) {
  return text === 'item' || text === 'end' || text === 'error' ? text : 'value';
}
export const noReply = { kind: 'none' };
