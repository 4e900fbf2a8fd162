import { hostname } from 'node:os';
import type {
  DeadLetterStore,
  DeadLetterLocation,
  DeadLetterOutcome,
  DeadLetterVisitor,
  ScanOptions,
  DeadLetterAction,
} from '../../core/port/dead-letter-store.js';
import { NoRouteError, StorkConfigError } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import {
  markerKeyOf,
  markersTopic,
  encodeMarker,
  type DeadLetterMarker,
} from '../../driver-kit/log/dead-letter-markers.js';
import { republishedHeaders, RecordMessage } from '../../driver-kit/log/log-record.js';
import { deadLetterTopic, retryTopic } from '../../driver-kit/log/topic-names.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { MemoryRecord, MemoryTopic } from '../broker/topics/memory-topic.js';

export interface LogDeadLettersFields {
  readonly broker: MemoryBroker;
  readonly group: string;
  readonly patternHeader: string | undefined;
  readonly location: DeadLetterLocation;
}

/**
 * The dead letters of one group in a topic in memory. Their records stay; markers record which of them
 * were replayed or discarded.
 */
export class LogDeadLetters implements DeadLetterStore {
  readonly name: string;
  readonly source: string;
  readonly group: string;
  readonly defaultWindow = 1;
  readonly #fields: LogDeadLettersFields;
  readonly #topic: MemoryTopic;

  /** @throws StorkConfigError if no topic is named, or the dead letter topic does not exist */
  constructor(fields: LogDeadLettersFields) {
    const { broker, group, location: place } = fields;
    if (place.source === undefined) {
      const expected = 'the topic whose messages were dead-lettered';
      throw new StorkConfigError([{ name: 'source', expected, given: 'nothing' }]);
    }
    this.source = place.source;
    this.group = group;
    this.name = place.from ?? deadLetterTopic(this.source);
    const topic = broker.topic(this.name);
    if (topic === undefined) throw new StorkConfigError(`there is no topic ${JSON.stringify(this.name)}`);
    this.#fields = fields;
    this.#topic = topic;
  }

  async count(): Promise<number> {
    return this.#unsettled().length;
  }

  async warnings(): Promise<readonly string[]> {
    const { broker, group } = this.#fields;
    if (broker.topic(this.source) === undefined)
      return [`the topic ${JSON.stringify(this.source)} does not exist: dead letters cannot be replayed`];
    if (broker.group(group).members > 0) return [];
    return [
      `the group ${JSON.stringify(group)} has no members: replayed dead letters are handled when a consumer joins it`,
    ];
  }

  async scan(visitor: DeadLetterVisitor, { signal }: ScanOptions): Promise<void> {
    for (const record of this.#unsettled()) {
      signal.throwIfAborted();
      const message = new RecordMessage(record, this.#fields.patternHeader, record);
      const deadLetter = { id: `${record.partition}/${record.offset}`, message };
      const action = await visitor.decide(deadLetter);
      if (action === 'stop') return;
      if (action !== 'keep') visitor.settled(deadLetter, this.#settle(record, action));
    }
  }

  async close(): Promise<void> {}

  /** Synchronous: a consumer that reads the replayed message finds its marker as well. */
  #settle(record: MemoryRecord, action: Exclude<DeadLetterAction, 'keep' | 'stop'>): DeadLetterOutcome {
    if (this.#settledKeys().has(markerKeyOf(record)))
      return { skipped: new Error('another operation has settled it meanwhile') };
    if (action === 'discard') {
      this.#mark(record, 'discarded');
      return 'discarded';
    }
    const failure = this.#replay(record, action.replay);
    if (failure !== undefined) return { skipped: failure };
    this.#mark(record, 'replayed');
    return 'replayed';
  }

  /**
   * Publishes to the retry topic without delay, which only this group consumes.
   *
   * @returns why the dead letter cannot be replayed; undefined if it was
   */
  #replay({ key, value }: MemoryRecord, headers: MessageHeaders): Error | undefined {
    const { broker, group } = this.#fields;
    const source = broker.topic(this.source);
    if (source === undefined) return new NoRouteError(`there is no topic ${JSON.stringify(this.source)}`);
    const target = broker.createTopic(retryTopic(this.source, group, 0), {
      partitions: source.partitionCount,
    });
    const written = republishedHeaders({ to: 'dead-letter', headers }, group);
    target.append({ key, value, headers: written, timestamp: broker.clock.now() });
    return undefined;
  }

  #mark(record: MemoryRecord, action: DeadLetterMarker['action']): void {
    const { broker } = this.#fields;
    const now = broker.clock.now();
    const value = encodeMarker({
      action,
      at: new Date(now).toISOString(),
      by: `${hostname()}/${process.pid}`,
    });
    const markers = broker.createTopic(markersTopic(this.name), { partitions: this.#topic.partitionCount });
    markers.append({ key: markerKeyOf(record), value, headers: {}, timestamp: now });
  }

  /** Records of dead letters that were neither replayed nor discarded. */
  #unsettled(): readonly MemoryRecord[] {
    const settled = this.#settledKeys();
    return recordsOf(this.#topic).filter((record) => !settled.has(markerKeyOf(record)));
  }

  #settledKeys(): ReadonlySet<string | undefined> {
    const markers = this.#fields.broker.topic(markersTopic(this.name));
    return new Set(markers === undefined ? [] : recordsOf(markers).map(({ key }) => key));
  }
}

function recordsOf(topic: MemoryTopic): readonly MemoryRecord[] {
  const partitions = Array.from({ length: topic.partitionCount }, (_, partition) => partition);
  return partitions.flatMap((partition) => topic.read(partition, 0, topic.endOffset(partition)));
}
