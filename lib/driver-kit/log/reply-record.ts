import type { OutboundReply } from '../../core/port/message.js';

/** Partitions of a reply topic: each client reads one of them. */
export const replyPartitions = 6;

/** Nest's clients treat a value as one more item of the stream, so the end of a stream has none. */
export function replyValue({ kind, body }: Pick<OutboundReply, 'kind' | 'body'>): Buffer | null {
  return kind === 'end' ? null : body;
}
