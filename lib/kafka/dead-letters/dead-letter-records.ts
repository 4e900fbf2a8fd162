import { hostname } from 'node:os';
import type { MessageHeaders } from '../../core/message/headers.js';
import { encodeMarker, type DeadLetterMarker } from '../../driver-kit/log/dead-letter-markers.js';
import { republishedHeaders } from '../../driver-kit/log/log-record.js';
import type { FetchedRecord, PartitionBatch, RecordToSend } from '../client/client.js';
import { sizeOf } from '../produce/partition-batcher.js';
import { partitionBy, partitionOfKey, type Partitioner } from '../produce/partitioner.js';
import { headersToSend } from '../records.js';

/** Written into each marker. */
const operator = `${hostname()}/${process.pid}`;

/** A topic with its partition count. */
export interface TargetTopic {
  readonly topic: string;
  readonly partitions: number;
}

/** A record with the partition that it is written to. */
export interface RoutedRecord {
  readonly topic: string;
  readonly partition: number;
  readonly record: RecordToSend;
}

/**
 * The record that returns a dead letter to its group, with the same bytes as key and value. Its timestamp
 * is the current time: by the original one, retention could delete it before it is read.
 */
export function replayedRecord(
  { key, value }: FetchedRecord,
  headers: MessageHeaders,
  group: string,
  nowMs: number,
): RecordToSend {
  // Without a reply address, like a dead letter: the caller has received an error or has timed out.
  const recordHeaders = republishedHeaders({ to: 'dead-letter', headers }, group);
  return { key, value, headers: headersToSend(recordHeaders), timestamp: nowMs };
}

export function markerRecord(key: string, action: DeadLetterMarker['action'], nowMs: number): RecordToSend {
  const value = encodeMarker({ action, at: new Date(nowMs).toISOString(), by: operator });
  return { key, value, headers: {}, timestamp: nowMs };
}

export function routeMarker({ topic, partitions }: TargetTopic, record: RecordToSend): RoutedRecord {
  return { topic, partition: partitionOfKey(record.key!, partitions), record };
}

/**
 * @param keylessPartition partition of a record without a key
 * @throws StorkConfigError if the user's partitioner throws or returns no partition
 */
export function routeReplayed(
  { topic, partitions }: TargetTopic,
  record: RecordToSend,
  keylessPartition: number,
  partitioner: Partitioner | undefined,
): RoutedRecord {
  const { key } = record;
  if (partitioner !== undefined)
    return { topic, partition: partitionBy(partitioner, { topic, key, partitions }), record };
  return { topic, partition: key === null ? keylessPartition : partitionOfKey(key, partitions), record };
}

/**
 * Groups records into as few batches as possible, in order within each partition. A record larger than
 * `maxBytes` has a batch of its own.
 */
export function batchesOf(routed: readonly RoutedRecord[], maxBytes: number): readonly PartitionBatch[] {
  const batches: { topic: string; partition: number; records: RecordToSend[]; bytes: number }[] = [];
  for (const { topic, partition, record } of routed) {
    const bytes = sizeOf(record);
    const last = batches.findLast((batch) => batch.topic === topic && batch.partition === partition);
    if (last !== undefined && last.bytes + bytes <= maxBytes) {
      last.records.push(record);
      last.bytes += bytes;
    } else batches.push({ topic, partition, records: [record], bytes });
  }
  return batches;
}
