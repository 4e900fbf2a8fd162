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
import { deadLetterQueue } from '../../driver-kit/queue/queue-topology.js';
import { inboundMessage, republishedMessage } from './queue-messages.js';

/**
 * The dead letters of a queue in memory. Replay and removal are one synchronous step, so neither can fail
 * alone.
 */
export class QueueDeadLetters implements DeadLetterStore {
  readonly name: string;
  readonly source: string;
  readonly group = undefined;
  readonly defaultWindow = 1;
  readonly #broker: MemoryBroker;
  readonly #queue: MemoryQueue;
  readonly #keyHeader: string;

  /** @throws StorkConfigError if no queue is named, or the dead letter queue does not exist */
  constructor(broker: MemoryBroker, { source, from }: DeadLetterLocation, keyHeader: string) {
    if (source === undefined) {
      const expected = 'the queue whose messages were dead-lettered';
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
    if (source === undefined) return [`${named} does not exist: dead letters cannot be replayed`];
    return source.consumers === 0 ? [`${named} has no consumers: replayed messages wait there`] : [];
  }

  async scan(visitor: DeadLetterVisitor, { signal }: ScanOptions): Promise<void> {
    for (const raw of this.#queue.peek()) {
      signal.throwIfAborted();
      const deadLetter = readQueueDeadLetter(inboundMessage(raw, this.name, this.#keyHeader));
      const action = await visitor.decide(deadLetter);
      if (action === 'stop') return;
      if (action !== 'keep') visitor.settled(deadLetter, this.#settle(raw, action));
    }
  }

  async close(): Promise<void> {}

  /** Synchronous: no consumer and no other operation can take the message between its steps. */
  #settle(raw: MemoryMessage, action: Exclude<DeadLetterAction, 'keep' | 'stop'>): DeadLetterOutcome {
    if (!this.#queue.peek().includes(raw)) return { skipped: new Error('another consumer has it') };
    if (action === 'discard') {
      this.#queue.remove(raw);
      return 'discarded';
    }
    const failure = this.#replay(raw, action.replay);
    if (failure !== undefined) return { skipped: failure };
    this.#queue.remove(raw);
    return 'replayed';
  }

  /** @returns why the dead letter cannot be replayed; undefined if it was */
  #replay(raw: MemoryMessage, headers: MessageHeaders): Error | undefined {
    const message = republishedMessage(raw, { to: 'dead-letter', headers });
    const outcome = this.#broker.publish('', this.source, message);
    if (outcome === 'routed') return undefined;
    const named = `the queue ${JSON.stringify(this.source)}`;
    return outcome === 'unrouted'
      ? new NoRouteError(`${named} does not exist`)
      : new PublishRejectedError(`${named} is full`);
  }
}
