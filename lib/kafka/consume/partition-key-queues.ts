import type { Delivery } from '../../core/port/delivery.js';

/**
 * Messages of one key that are in core at the same time: enough that a handler finds the next one, few
 * enough that one key does not use up core's limit of messages in flight.
 */
const maxDispatchedPerKey = 4;
/** Estimated memory of a message besides its body. */
const messageBytes = 1_000;

interface KeyQueue {
  /** Unsettled messages that core has. */
  dispatched: number;
  /** Messages that wait for one of those to settle, in offset order. */
  readonly backlog: Delivery[];
}

/**
 * Holds back messages whose key has enough of them in core. Dispatched at once, they would count as in
 * flight and delay messages of other keys.
 */
export class PartitionKeyQueues {
  readonly #queues = new Map<string, KeyQueue>();
  /** Queues whose next message can be dispatched; a queue is listed once for each settled message. */
  #ready: KeyQueue[] = [];
  #bytes = 0;

  /** Estimated memory of all backlogs. */
  get bytes(): number {
    return this.#bytes;
  }

  /** True if the message can be dispatched now; otherwise `next` returns it later. */
  admit(delivery: Delivery): boolean {
    const { orderingKey, mode } = delivery;
    // A handler with manual acknowledgement may need many messages before it settles one.
    if (orderingKey === undefined || mode === 'manual') return true;
    const queue = this.#queues.get(orderingKey);
    if (queue === undefined) this.#queues.set(orderingKey, { dispatched: 1, backlog: [] });
    else if (queue.dispatched < maxDispatchedPerKey && queue.backlog.length === 0) queue.dispatched++;
    else {
      queue.backlog.push(delivery);
      this.#bytes += costOf(delivery);
      return false;
    }
    return true;
  }

  /** Called when a message is settled. True if another message of its key can be dispatched. */
  settle({ orderingKey }: Delivery): boolean {
    const queue = orderingKey === undefined ? undefined : this.#queues.get(orderingKey);
    if (queue === undefined) return false;
    queue.dispatched--;
    if (queue.backlog.length > 0) return this.#ready.push(queue) > 0;
    if (queue.dispatched === 0) this.#queues.delete(orderingKey!);
    return false;
  }

  /** The next message of a backlog that can be dispatched. */
  next(): Delivery | undefined {
    for (let queue = this.#ready.shift(); queue !== undefined; queue = this.#ready.shift()) {
      const delivery = queue.backlog.shift();
      // While the sink was full, a queue may have become ready more often than it has messages.
      if (delivery === undefined) continue;
      queue.dispatched++;
      this.#bytes -= costOf(delivery);
      return delivery;
    }
    return undefined;
  }

  clear(): void {
    this.#queues.clear();
    this.#ready = [];
    this.#bytes = 0;
  }
}

function costOf({ message }: Delivery): number {
  return messageBytes + (message.body?.length ?? 0);
}
