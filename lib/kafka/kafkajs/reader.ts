import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka } from 'kafkajs';
import { errorType, toClientError } from './errors.js';
import {
  KafkaClientError,
  type FetchedRecord,
  type KafkaReader,
  type LogEntry,
  type LogSlice,
  type ReaderSettings,
  type TopicPartition,
} from '../client/client.js';
import { clusterFactory, ignoringErrors, metadataMaxAgeMs } from './common.js';

const isolationLevels = { all: 0, committed: 1 } as const;
/** Long enough for the election of a new leader, which takes seconds. */
const retryLimitMs = 15_000;
const maxRetryDelayMs = 1_000;
/** With `minBytes: 0` the broker does not wait; kafkajs derives the time-out of the fetch from this. */
const maxWaitTimeMs = 10_000;
/** Type of an abort marker in the key of a control record. */
const abortMarker = 0;

/** What the reader uses of kafkajs's private cluster object: its API fetches for group members only. */
interface FetchingCluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  addTargetTopic(topic: string): Promise<void>;
  refreshMetadata(): Promise<void>;
  findLeaderForPartitions(topic: string, partitions: readonly number[]): Readonly<Record<string, unknown>>;
  findBroker(node: { nodeId: string }): Promise<{ fetch(request: object): Promise<FetchResponse> }>;
}

interface FetchResponse {
  readonly responses: readonly { readonly partitions: readonly FetchedPartition[] }[];
}

interface FetchedPartition {
  readonly highWatermark: string;
  readonly lastStableOffset: string;
  readonly abortedTransactions: readonly { readonly producerId: string; readonly firstOffset: string }[];
  readonly messages: readonly RawRecord[];
}

interface RawRecord extends FetchedRecord {
  readonly isControlRecord: boolean;
  readonly batchContext: {
    readonly firstOffset: string;
    readonly lastOffsetDelta: number;
    readonly producerId: string;
    readonly inTransaction: boolean;
  };
}

export async function openReader(kafka: Kafka, { maxBytes }: ReaderSettings): Promise<KafkaReader> {
  const cluster = clusterFactory<FetchingCluster>(kafka).make({
    allowAutoTopicCreation: false,
    metadataMaxAge: metadataMaxAgeMs,
  });
  try {
    await cluster.connect();
  } catch (error) {
    await ignoringErrors(cluster.disconnect());
    throw toClientError(error, 'unavailable');
  }
  return new KafkaJsReader(cluster, maxBytes);
}

class KafkaJsReader implements KafkaReader {
  readonly #cluster: FetchingCluster;
  readonly #maxBytes: number;
  #isClosed = false;

  constructor(cluster: FetchingCluster, maxBytes: number) {
    this.#cluster = cluster;
    this.#maxBytes = maxBytes;
  }

  async fetch(at: TopicPartition, offset: number, which: 'committed' | 'all'): Promise<LogSlice | undefined> {
    const until = Date.now() + retryLimitMs;
    for (let delayMs = 50; ; delayMs = Math.min(2 * delayMs, maxRetryDelayMs)) {
      try {
        const fetched = await this.#fetchOnce(at, offset, which);
        return which === 'all' ? sliceOfAll(fetched, offset) : sliceOfCommitted(fetched, offset);
      } catch (error) {
        if (errorType(error) === 'OFFSET_OUT_OF_RANGE') return undefined;
        const clientError = toClientError(error, 'unavailable');
        const isTransient = clientError.failure === 'unavailable' || clientError.failure === 'unconfirmed';
        if (!isTransient || Date.now() > until || this.#isClosed) throw clientError;
      }
      await sleep(delayMs);
      await ignoringErrors(this.#refresh());
    }
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return ignoringErrors(this.#cluster.disconnect());
  }

  async #refresh(): Promise<void> {
    if (this.#isClosed) return;
    await this.#cluster.connect();
    await this.#cluster.refreshMetadata();
  }

  async #fetchOnce(
    { topic, partition }: TopicPartition,
    offset: number,
    which: 'committed' | 'all',
  ): Promise<FetchedPartition> {
    if (this.#isClosed) throw new KafkaClientError('unavailable', 'the reader is closed');
    await this.#cluster.addTargetTopic(topic);
    const [nodeId = 'none'] = Object.keys(this.#cluster.findLeaderForPartitions(topic, [partition]));
    const broker = await this.#cluster.findBroker({ nodeId });
    const { responses } = await broker.fetch({
      isolationLevel: isolationLevels[which],
      minBytes: 0,
      maxWaitTime: maxWaitTimeMs,
      maxBytes: this.#maxBytes,
      // One partition a request: its first record batch is returned even if it exceeds `maxBytes`.
      topics: [{ topic, partitions: [{ partition, fetchOffset: String(offset), maxBytes: this.#maxBytes }] }],
    });
    const [fetched] = responses.flatMap(({ partitions }) => partitions);
    // A broker that throttles the client answers without the partition.
    if (fetched === undefined)
      throw new KafkaClientError(
        'unavailable',
        `the broker's response does not contain ${topic}/${partition}`,
      );
    return fetched;
  }
}

function sliceOfAll(fetched: FetchedPartition, offset: number): LogSlice {
  const end = Number(fetched.highWatermark);
  const entries = fetched.messages.filter((record) => Number(record.offset) >= offset).map(entryOf);
  return { entries, nextOffset: nextOf(fetched, end), end };
}

function sliceOfCommitted(fetched: FetchedPartition, offset: number): LogSlice {
  const end = Number(fetched.lastStableOffset);
  const entries = withoutAborted(fetched)
    .filter((record) => !record.isControlRecord && Number(record.offset) >= offset)
    .map(entryOf);
  return { entries, nextOffset: nextOf(fetched, end), end };
}

/**
 * The offset after the last batch: compaction may have removed the batch's last records. Without any
 * record, the end: kafkajs omits batches that are empty after compaction.
 */
function nextOf({ messages }: FetchedPartition, end: number): number {
  const last = messages.at(-1);
  if (last === undefined) return end;
  const { firstOffset, lastOffsetDelta } = last.batchContext;
  return Number(firstOffset) + lastOffsetDelta + 1;
}

function withoutAborted({ abortedTransactions, messages }: FetchedPartition): readonly RawRecord[] {
  const upcoming = abortedTransactions.toSorted((a, b) => Number(a.firstOffset) - Number(b.firstOffset));
  const aborting = new Set<string>();
  return messages.filter(({ offset, isControlRecord, batchContext }) => {
    while (upcoming.length > 0 && Number(upcoming[0]!.firstOffset) <= Number(offset))
      aborting.add(upcoming.shift()!.producerId);
    const { producerId, inTransaction } = batchContext;
    if (isControlRecord) aborting.delete(producerId);
    return isControlRecord || !inTransaction || !aborting.has(producerId);
  });
}

function entryOf(record: RawRecord): LogEntry {
  const { offset, timestamp, key, value, headers, isControlRecord, batchContext } = record;
  const { inTransaction, producerId } = batchContext;
  const producer = inTransaction || isControlRecord ? producerId : undefined;
  const marker = isControlRecord ? transactionEndOf(key) : undefined;
  return { offset, timestamp, key, value, headers, producer, transactionEnd: marker };
}

/** The key of a control record is a version and a type, of two bytes each. */
function transactionEndOf(key: Buffer | null): LogEntry['transactionEnd'] {
  return key !== null && key.length >= 4 && key.readInt16BE(2) === abortMarker ? 'abort' : 'commit';
}
