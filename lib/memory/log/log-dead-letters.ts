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
  markerKey,
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
  readonly place: DeadLetterLocation;
}

/** The dead letters of a topic in memory, those of one group. A log keeps them; marks say which are done with. */
export class LogDeadLetters implements DeadLetterStore {
  readonly name: string;
  readonly source: string;
  readonly group: string;
  readonly defaultWindow = 1;
  readonly #fields: LogDeadLettersFields;
  readonly #topic: MemoryTopic;

  /** @throws StorkConfigError where there is no such topic, or nobody says which */
  constructor(fields: LogDeadLettersFields) {
    const { broker, group, place } = fields;
    if (place.source === undefined) {
      const expected = 'the topic whose dead letters are meant';
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
    return this.#open().length;
  }

  async warnings(): Promise<readonly string[]> {
    const { broker, group } = this.#fields;
    if (broker.topic(this.source) === undefined)
      return [`the topic ${JSON.stringify(this.source)} does not exist: nothing can be replayed`];
    if (broker.group(group).members > 0) return [];
    return [`the group ${JSON.stringify(group)} has no members: replayed letters wait`];
  }

  async scan(visitor: DeadLetterVisitor, { signal }: ScanOptions): Promise<void> {
    for (const record of this.#open()) {
      signal.throwIfAborted();
      const message = new RecordMessage(record, this.#fields.patternHeader, record);
      const deadLetter = { id: `${record.partition}/${record.offset}`, message };
      const verdict = await visitor.decide(deadLetter);
      if (verdict === 'stop') return;
      if (verdict !== 'keep') visitor.settled(deadLetter, this.#settle(record, verdict));
    }
  }

  async close(): Promise<void> {}

  /** In one tick: whoever reads the replayed message finds the mark. */
  #settle(record: MemoryRecord, verdict: Exclude<DeadLetterAction, 'keep' | 'stop'>): DeadLetterOutcome {
    if (this.#marked().has(markerKey(record)))
      return { skipped: new Error('somebody else has settled it meanwhile') };
    if (verdict === 'discard') {
      this.#mark(record, 'discarded');
      return 'discarded';
    }
    const kept = this.#replay(record, verdict.replay);
    if (kept !== undefined) return { skipped: kept };
    this.#mark(record, 'replayed');
    return 'replayed';
  }

  /** Why it could not be. To a topic that nobody but the group reads. */
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
    const marks = broker.createTopic(markersTopic(this.name), { partitions: this.#topic.partitionCount });
    marks.append({ key: markerKey(record), value, headers: {}, timestamp: now });
  }

  /** Letters that are not done with. */
  #open(): readonly MemoryRecord[] {
    const marked = this.#marked();
    return recordsOf(this.#topic).filter((record) => !marked.has(markerKey(record)));
  }

  #marked(): ReadonlySet<string | undefined> {
    const marks = this.#fields.broker.topic(markersTopic(this.name));
    return new Set(marks === undefined ? [] : recordsOf(marks).map(({ key }) => key));
  }
}

function recordsOf(topic: MemoryTopic): readonly MemoryRecord[] {
  const partitions = Array.from({ length: topic.partitionCount }, (_, partition) => partition);
  return partitions.flatMap((partition) => topic.read(partition, 0, topic.endOffset(partition)));
}
