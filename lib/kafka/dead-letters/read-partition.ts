import { withTimeout } from '../../core/runtime/with-timeout.js';
import type { KafkaAdmin, KafkaReader, LogSlice, TopicPartition } from '../client/client.js';

export interface ReadPartitionFields {
  readonly reader: KafkaReader;
  readonly admin: Pick<KafkaAdmin, 'fetchOffsets'>;
  readonly signal: AbortSignal;
}

/**
 * Reads a partition from the offset `from` to the end offset that the first fetch reports, or to `until` if
 * that is smaller; the last slice may reach beyond. Records that retention deletes meanwhile are skipped.
 * Rejects with `KafkaClientError`, and as soon as the signal aborts.
 */
export async function* readPartition(
  { reader, admin, signal }: ReadPartitionFields,
  at: TopicPartition,
  which: 'committed' | 'all',
  from: number,
  until = Infinity,
): AsyncGenerator<LogSlice, void, undefined> {
  for (let offset = from, endOffset = until; offset < endOffset;) {
    const slice = await withTimeout(reader.fetch(at, offset, which), { signal });
    if (slice === undefined) {
      const ends = await withTimeout(admin.fetchOffsets(at.topic), { signal });
      const low = ends.find(({ partition }) => partition === at.partition)?.low ?? 0;
      // Retention moves the low offset up. A lower one means that the topic was recreated, and what it holds
      // now is not what this read was to return.
      if (low <= offset) return;
      offset = low;
      continue;
    }
    yield slice;
    if (slice.nextOffset <= offset) return;
    endOffset = Math.min(endOffset, slice.end);
    offset = slice.nextOffset;
  }
}
