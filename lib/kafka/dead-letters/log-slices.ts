import { withTimeout } from '../../core/runtime/with-timeout.js';
import type { KafkaAdmin, KafkaReader, LogSlice, TopicPartition } from '../client/client.js';

export interface LogSlicesFields {
  readonly reader: KafkaReader;
  readonly admin: Pick<KafkaAdmin, 'ends'>;
  readonly signal: AbortSignal;
}

/**
 * The partition from `from` on, up to where it ended when the first slice was read, or to `until` where that is nearer; the last slice may
 * reach beyond. What retention takes meanwhile is passed over. Rejects with `KafkaClientError`, and as soon as the signal aborts.
 */
export async function* logSlices(
  { reader, admin, signal }: LogSlicesFields,
  at: TopicPartition,
  which: 'committed' | 'all',
  from: number,
  until = Infinity,
): AsyncGenerator<LogSlice, void, undefined> {
  for (let next = from, limit = until; next < limit;) {
    const slice = await withTimeout(reader.fetch(at, next, which), { signal });
    if (slice === undefined) {
      const ends = await withTimeout(admin.ends(at.topic), { signal });
      const low = ends.find(({ partition }) => partition === at.partition)?.low ?? 0;
      // Else somebody has made the topic anew: what it holds now is of another time.
      if (low <= next) return;
      next = low;
      continue;
    }
    yield slice;
    if (slice.nextOffset <= next) return;
    limit = Math.min(limit, slice.end);
    next = slice.nextOffset;
  }
}
