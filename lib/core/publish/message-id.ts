import { createHash } from 'node:crypto';
import type { CorrelationContext } from './correlation-context.js';

/** Bounds what an attempt that sends without an end keeps in memory. */
const maxDerived = 10_000;

/** What identifies a message besides the handler that sends it. */
interface SentMessage {
  readonly pattern: string;
  readonly key: string | undefined;
  readonly body: Buffer | null;
}

/**
 * The id of a message that a handler sends: the same in each attempt, so that a consumer recognises what a
 * repeated attempt sends again. Equal messages of one attempt are numbered.
 *
 * @returns a UUID of version 8; undefined outside of an attempt, if its message has no id, and once the
 * attempt has sent 10 000 different messages
 */
export function derivedMessageId(
  context: CorrelationContext | undefined,
  { pattern, key, body }: SentMessage,
): string | undefined {
  if (context?.messageId === undefined || context.handlerId === undefined) return undefined;
  const identity = JSON.stringify([context.messageId, context.handlerId, pattern, key]);
  const content = createHash('sha256')
    .update(identity)
    .update(body ?? 'null')
    .digest('hex');
  const sent = (context.sent ??= new Map());
  const number = sent.get(content) ?? 0;
  if (number === 0 && sent.size >= maxDerived) return undefined;
  sent.set(content, number + 1);
  return uuidOf(number === 0 ? content : createHash('sha256').update(`${content} ${number}`).digest('hex'));
}

function uuidOf(hex: string): string {
  const variant = ((Number.parseInt(hex[16]!, 16) & 0x3) | 0x8).toString(16);
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}
