import type {
  DeadLetterBox,
  DeadLetterPlace,
  LetterOutcome,
  LetterVisitor,
  PassOptions,
  Verdict,
} from '../core/dead-letters.js';
import { NoRouteError, PublishRejectedError, StorkConfigError } from '../core/errors.js';
import type { Headers } from '../core/headers.js';
import { queueLetter } from '../core/queue-letters.js';
import type { MemoryBroker } from './broker/memory-broker.js';
import type { MemoryQueue } from './broker/memory-queue.js';
import type { MemoryMessage } from './broker/message.js';
import { copyOf, deadLetterQueue, inboundMessage } from './queue-messages.js';

/** The dead letters of a queue in memory. Nothing can go away between two steps, so each letter is replayed or stays. */
export class QueueLetters implements DeadLetterBox {
  readonly name: string;
  readonly source: string;
  readonly group = undefined;
  readonly defaultWindow = 1;
  readonly #broker: MemoryBroker;
  readonly #queue: MemoryQueue;
  readonly #keyHeader: string;

  /** @throws StorkConfigError where there is no such queue, or nobody says which */
  constructor(broker: MemoryBroker, { source, from }: DeadLetterPlace, keyHeader: string) {
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

  async pass(visitor: LetterVisitor, { signal }: PassOptions): Promise<void> {
    for (const raw of this.#queue.peek()) {
      signal.throwIfAborted();
      const letter = queueLetter(inboundMessage(raw, this.name, this.#keyHeader));
      const verdict = await visitor.visit(letter);
      if (verdict === 'stop') return;
      if (verdict !== 'keep') visitor.settled(letter, this.#settle(raw, verdict));
    }
  }

  async close(): Promise<void> {}

  /** In one tick, so that neither a consumer nor another operator can come between. */
  #settle(raw: MemoryMessage, verdict: Exclude<Verdict, 'keep' | 'stop'>): LetterOutcome {
    if (!this.#queue.peek().includes(raw)) return { kept: new Error('somebody else has it') };
    if (verdict === 'discard') {
      this.#queue.remove(raw);
      return 'discarded';
    }
    const kept = this.#replay(raw, verdict.replay);
    if (kept !== undefined) return { kept };
    this.#queue.remove(raw);
    return 'replayed';
  }

  /** Why it could not be. */
  #replay(raw: MemoryMessage, headers: Headers): Error | undefined {
    const copy = copyOf(raw, { to: 'dead-letter', headers });
    const outcome = this.#broker.publish('', this.source, copy);
    if (outcome === 'routed') return undefined;
    const named = `the queue ${JSON.stringify(this.source)}`;
    return outcome === 'unrouted'
      ? new NoRouteError(`${named} does not exist`)
      : new PublishRejectedError(`${named} is full`);
  }
}
