import { hostname } from 'node:os';
import type { MessageHeaders } from '../../core/message/headers.js';
import { encodeMarker, type DeadLetterMarker } from '../../driver-kit/log/dead-letter-markers.js';
import { republishedHeaders } from '../../driver-kit/log/log-record.js';
import type { FetchedRecord, PartitionBatch, RecordToSend } from '../client/client.js';
import { sizeOf } from '../produce/partition-batcher.js';
import { partitionBy, partitionOfKey, type Partitioner } from '../produce/partitioner.js';
import { headersToSend } from '../records.js';

const by = `${hostname()}/${process.pid}`;

/** A topic that can be written to. */
export interface WritableTopic {
  readonly topic: string;
  readonly partitions: number;
}

/** A record and where it goes. */
export interface PlacedRecord {
  readonly topic: string;
  readonly partition: number;
  readonly record: RecordToSend;
}

/** The copy that goes back to the group: the same key and body, byte for byte. The time is the present, or retention could take it at once. */
export function replayedRecord(
  { key, value }: FetchedRecord,
  headers: MessageHeaders,
  group: string,
  nowMs: number,
): RecordToSend {
  // Whoever asked was told that it failed, or is gone: nobody waits for a reply.
  const written = republishedHeaders({ to: 'dead-letter', headers }, group);
  return { key, value, headers: headersToSend(written), timestamp: nowMs };
}

export function markRecord(key: string, action: DeadLetterMarker['action'], nowMs: number): RecordToSend {
  const value = encodeMarker({ action, at: new Date(nowMs).toISOString(), by });
  return { key, value, headers: {}, timestamp: nowMs };
}

export function placeMark({ topic, partitions }: WritableTopic, record: RecordToSend): PlacedRecord {
  return { topic, partition: partitionOfKey(record.key!, partitions), record };
}

/**
 * @param spare the partition for a record without a key
 * @throws StorkConfigError where the user's partitioner fails
 */
export function placeReplay(
  { topic, partitions }: WritableTopic,
  record: RecordToSend,
  spare: number,
  partitioner: Partitioner | undefined,
): PlacedRecord {
  const { key } = record;
  if (partitioner !== undefined)
    return { topic, partition: partitionBy(partitioner, { topic, key, partitions }), record };
  return { topic, partition: key === null ? spare : partitionOfKey(key, partitions), record };
}

/** As few batches as hold them, in order within each partition. A record that is larger than `maxBytes` has one of its own. */
export function batchesOf(placed: readonly PlacedRecord[], maxBytes: number): readonly PartitionBatch[] {
  const batches: { topic: string; partition: number; records: RecordToSend[]; bytes: number }[] = [];
  for (const { topic, partition, record } of placed) {
    const bytes = sizeOf(record);
    const last = batches.findLast((batch) => batch.topic === topic && batch.partition === partition);
    if (last !== undefined && last.bytes + bytes <= maxBytes) {
      last.records.push(record);
      last.bytes += bytes;
    } else batches.push({ topic, partition, records: [record], bytes });
  }
  return batches;
}
