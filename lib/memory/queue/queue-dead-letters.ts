import type {
  DeadLetterStore,
  DeadLetterLocation,
  DeadLetterOutcome,
  DeadLetterVisitor,
  ScanOptions,
  DeadLetterAction,
} from '../../core/port/dead-letter-store.js';
import { NoRouteError, PublishRejectedError, StorkConfigError } from '../../core/runtime/errors.js';
import type { MessageHeaders } from '../../core/message/headers.js';
import { readQueueDeadLetter } from '../../driver-kit/queue/broker-dead-letter.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { MemoryQueue } from '../broker/queues/memory-queue.js';
import type { MemoryMessage } from '../broker/message.js';
import { copyOf, deadLetterQueue, inboundMessage } from './queue-messages.js';

/** The dead letters of a queue in memory. Nothing can go away between two steps, so each letter is replayed or stays. */
export class QueueDeadLetters implements DeadLetterStore {
  readonly name: string;
  readonly source: string;
  readonly group = undefined;
  readonly defaultWindow = 1;
  readonly #broker: MemoryBroker;
  readonly #queue: MemoryQueue;
  readonly #keyHeader: string;

  /** @throws StorkConfigError where there is no such queue, or nobody says which */
  constructor(broker: MemoryBroker, { source, from }: DeadLetterLocation, keyHeader: string) {
    if (source === undefined) {
      const expected = 'the queue whose dead letters are meant';
      throw new StorkConfigError([{ name: 'source', expected, given: 'nothing' }]);
    }
    this.source = source;
    this.name = from ?? deadLetterQueue(source);
    const queue = broker.queue(this.name);
    if (queue === undefined) throw new StorkConfigError(`there is no queue ${JSON.stringify(this.name)}`);
    this.#broker = broker;
    this.#queue = queue;
    this.#keyHeader = keyHeader;
  }

  async count(): Promise<number> {
    return this.#queue.ready;
  }

  async warnings(): Promise<readonly string[]> {
    const source = this.#broker.queue(this.source);
    const named = `the queue ${JSON.stringify(this.source)}`;
    if (source === undefined) return [`${named} does not exist: nothing can be replayed`];
    return source.consumers === 0 ? [`nobody consumes ${named}: replayed letters wait`] : [];
  }

  async scan(visitor: DeadLetterVisitor, { signal }: ScanOptions): Promise<void> {
    for (const raw of this.#queue.peek()) {
      signal.throwIfAborted();
      const deadLetter = readQueueDeadLetter(inboundMessage(raw, this.name, this.#keyHeader));
      const verdict = await visitor.decide(deadLetter);
      if (verdict === 'stop') return;
      if (verdict !== 'keep') visitor.settled(deadLetter, this.#settle(raw, verdict));
    }
  }

  async close(): Promise<void> {}

  /** In one tick, so that neither a consumer nor another operator can come between. */
  #settle(raw: MemoryMessage, verdict: Exclude<DeadLetterAction, 'keep' | 'stop'>): DeadLetterOutcome {
    if (!this.#queue.peek().includes(raw)) return { skipped: new Error('somebody else has it') };
    if (verdict === 'discard') {
      this.#queue.remove(raw);
      return 'discarded';
    }
    const kept = this.#replay(raw, verdict.replay);
    if (kept !== undefined) return { skipped: kept };
    this.#queue.remove(raw);
    return 'replayed';
  }

  /** Why it could not be. */
  #replay(raw: MemoryMessage, headers: MessageHeaders): Error | undefined {
    const copy = copyOf(raw, { to: 'dead-letter', headers });
    const outcome = this.#broker.publish('', this.source, copy);
    if (outcome === 'routed') return undefined;
    const named = `the queue ${JSON.stringify(this.source)}`;
    return outcome === 'unrouted'
      ? new NoRouteError(`${named} does not exist`)
      : new PublishRejectedError(`${named} is full`);
  }
}
