import { hostname } from 'node:os';
import type {
  DeadLetterBox,
  DeadLetterPlace,
  LetterOutcome,
  LetterVisitor,
  PassOptions,
  Verdict,
} from '../core/dead-letters.js';
import { NoRouteError, StorkConfigError } from '../core/errors.js';
import type { Headers } from '../core/headers.js';
import { markKey, marksTopic, writeMark, type LetterMark } from '../core/letter-marks.js';
import { deadLetterTopic, headersOfCopy, RecordMessage, retryTopic } from '../core/log-records.js';
import type { MemoryBroker } from './broker/memory-broker.js';
import type { MemoryRecord, MemoryTopic } from './broker/memory-topic.js';

export interface LogLettersFields {
  readonly broker: MemoryBroker;
  readonly group: string;
  readonly patternHeader: string | undefined;
  readonly place: DeadLetterPlace;
}

/** The dead letters of a topic in memory, those of one group. A log keeps them; marks say which are done with. */
export class LogLetters implements DeadLetterBox {
  readonly name: string;
  readonly source: string;
  readonly group: string;
  readonly defaultWindow = 1;
  readonly #fields: LogLettersFields;
  readonly #topic: MemoryTopic;

  /** @throws StorkConfigError where there is no such topic, or nobody says which */
  constructor(fields: LogLettersFields) {
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

  async pass(visitor: LetterVisitor, { signal }: PassOptions): Promise<void> {
    for (const record of this.#open()) {
      signal.throwIfAborted();
      const message = new RecordMessage(record, this.#fields.patternHeader, record);
      const letter = { id: `${record.partition}/${record.offset}`, message };
      const verdict = await visitor.visit(letter);
      if (verdict === 'stop') return;
      if (verdict !== 'keep') visitor.settled(letter, this.#settle(record, verdict));
    }
  }

  async close(): Promise<void> {}

  /** In one tick: whoever reads the replayed message finds the mark. */
  #settle(record: MemoryRecord, verdict: Exclude<Verdict, 'keep' | 'stop'>): LetterOutcome {
    if (this.#marked().has(markKey(record)))
      return { kept: new Error('somebody else has settled it meanwhile') };
    if (verdict === 'discard') {
      this.#mark(record, 'discarded');
      return 'discarded';
    }
    const kept = this.#replay(record, verdict.replay);
    if (kept !== undefined) return { kept };
    this.#mark(record, 'replayed');
    return 'replayed';
  }

  /** Why it could not be. To a topic that nobody but the group reads. */
  #replay({ key, value }: MemoryRecord, headers: Headers): Error | undefined {
    const { broker, group } = this.#fields;
    const source = broker.topic(this.source);
    if (source === undefined) return new NoRouteError(`there is no topic ${JSON.stringify(this.source)}`);
    const target = broker.createTopic(retryTopic(this.source, group, 0), {
      partitions: source.partitionCount,
    });
    const written = headersOfCopy({ to: 'dead-letter', headers }, group);
    target.append({ key, value, headers: written, timestamp: broker.clock.now() });
    return undefined;
  }

  #mark(record: MemoryRecord, action: LetterMark['action']): void {
    const { broker } = this.#fields;
    const now = broker.clock.now();
    const value = writeMark({ action, at: new Date(now).toISOString(), by: `${hostname()}/${process.pid}` });
    const marks = broker.createTopic(marksTopic(this.name), { partitions: this.#topic.partitionCount });
    marks.append({ key: markKey(record), value, headers: {}, timestamp: now });
  }

  /** Letters that are not done with. */
  #open(): readonly MemoryRecord[] {
    const marked = this.#marked();
    return recordsOf(this.#topic).filter((record) => !marked.has(markKey(record)));
  }

  #marked(): ReadonlySet<string | undefined> {
    const marks = this.#fields.broker.topic(marksTopic(this.name));
    return new Set(marks === undefined ? [] : recordsOf(marks).map(({ key }) => key));
  }
}

function recordsOf(topic: MemoryTopic): readonly MemoryRecord[] {
  const partitions = Array.from({ length: topic.partitionCount }, (_, partition) => partition);
  return partitions.flatMap((partition) => topic.read(partition, 0, topic.endOffset(partition)));
}
