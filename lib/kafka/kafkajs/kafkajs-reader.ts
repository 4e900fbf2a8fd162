import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka } from 'kafkajs';
import { errorType, toClientError } from './client-errors.js';
import {
  KafkaClientError,
  type FetchedRecord,
  type KafkaReader,
  type LogEntry,
  type LogSlice,
  type ReaderSettings,
  type TopicPartition,
} from '../client/client.js';
import { clusterMaker, metadataMaxAgeMs, quietly } from './kafkajs-common.js';

const isolationLevels = { all: 0, committed: 1 } as const;
/** A partition moves to another leader within seconds. */
const limitMs = 15_000;
const longestPauseMs = 1_000;
/** The client gives up a fetch so long after it was asked, although the broker is told not to wait. */
const patienceMs = 10_000;
/** As a control record's key says it. */
const abortMarker = 0;

/** What is used of the client's inside: it fetches for members of groups alone. */
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
  const cluster = clusterMaker<FetchingCluster>(kafka).make({
    allowAutoTopicCreation: false,
    metadataMaxAge: metadataMaxAgeMs,
  });
  try {
    await cluster.connect();
  } catch (error) {
    await quietly(cluster.disconnect());
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
    const until = Date.now() + limitMs;
    for (let pauseMs = 50; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
      try {
        const fetched = await this.#ask(at, offset, which);
        return which === 'all' ? sliceOfAll(fetched, offset) : sliceOfCommitted(fetched, offset);
      } catch (error) {
        if (errorType(error) === 'OFFSET_OUT_OF_RANGE') return undefined;
        const failed = toClientError(error, 'unavailable');
        const mayPass = failed.failure === 'unavailable' || failed.failure === 'unconfirmed';
        if (!mayPass || Date.now() > until || this.#isClosed) throw failed;
      }
      await sleep(pauseMs);
      await quietly(this.#refresh());
    }
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return quietly(this.#cluster.disconnect());
  }

  async #refresh(): Promise<void> {
    if (this.#isClosed) return;
    await this.#cluster.connect();
    await this.#cluster.refreshMetadata();
  }

  async #ask(
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
      maxWaitTime: patienceMs,
      maxBytes: this.#maxBytes,
      // One partition: where there is something, something comes.
      topics: [{ topic, partitions: [{ partition, fetchOffset: String(offset), maxBytes: this.#maxBytes }] }],
    });
    const [fetched] = responses.flatMap(({ partitions }) => partitions);
    // A broker that throttles us leaves out what it was asked for.
    if (fetched === undefined)
      throw new KafkaClientError('unavailable', `no answer about ${topic}/${partition}`);
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

/** Behind the last batch, whose last records compaction may have taken. Batches without any record the client does not show. */
function nextOf({ messages }: FetchedPartition, end: number): number {
  const last = messages.at(-1);
  if (last === undefined) return end;
  const { firstOffset, lastOffsetDelta } = last.batchContext;
  return Number(firstOffset) + lastOffsetDelta + 1;
}

function withoutAborted({ abortedTransactions, messages }: FetchedPartition): readonly RawRecord[] {
  const toCome = abortedTransactions.toSorted((a, b) => Number(a.firstOffset) - Number(b.firstOffset));
  const aborting = new Set<string>();
  return messages.filter(({ offset, isControlRecord, batchContext }) => {
    while (toCome.length > 0 && Number(toCome[0]!.firstOffset) <= Number(offset))
      aborting.add(toCome.shift()!.producerId);
    const { producerId, inTransaction } = batchContext;
    if (isControlRecord) aborting.delete(producerId);
    return isControlRecord || !inTransaction || !aborting.has(producerId);
  });
}

function entryOf(record: RawRecord): LogEntry {
  const { offset, timestamp, key, value, headers, isControlRecord, batchContext } = record;
  const { inTransaction, producerId } = batchContext;
  const producer = inTransaction || isControlRecord ? producerId : undefined;
  const marker = isControlRecord ? markerOf(key) : undefined;
  return { offset, timestamp, key, value, headers, producer, marker };
}

/** Of its key the first two bytes are a version. */
function markerOf(key: Buffer | null): LogEntry['marker'] {
  return key !== null && key.length >= 4 && key.readInt16BE(2) === abortMarker ? 'abort' : 'commit';
}
