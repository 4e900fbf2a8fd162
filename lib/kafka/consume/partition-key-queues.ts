import type { Delivery } from '../../core/port/delivery.js';

/** Messages of a lane that core has at once: enough that the next is there when one ends, few enough that no lane fills core's window. */
const keyBacklogDepth = 4;
/** What a message costs in memory besides its body, roughly. */
const messageBytes = 1_000;

interface KeyBacklog {
  /** Messages that core has. */
  handed: number;
  /** Those that come after them, in order. */
  readonly behind: Delivery[];
}

/** Messages of a partition that wait behind others of their lane: handed over, they would take the places of those that can run. */
export class PartitionKeyQueues {
  readonly #lanes = new Map<string, KeyBacklog>();
  /** With room for one of those behind, each as often as it has. */
  #vacant: KeyBacklog[] = [];
  #bytes = 0;

  /** What waits here, with a guess at what an object costs. */
  get bytes(): number {
    return this.#bytes;
  }

  /** False where it has to wait; `next` gives it out then. */
  admit(delivery: Delivery): boolean {
    const { orderingKey: name, mode } = delivery;
    // A handler that keeps messages for later may need many before it settles one.
    if (name === undefined || mode === 'manual') return true;
    const orderingKey = this.#lanes.get(name);
    if (orderingKey === undefined) this.#lanes.set(name, { handed: 1, behind: [] });
    else if (orderingKey.handed < keyBacklogDepth && orderingKey.behind.length === 0) orderingKey.handed++;
    else {
      orderingKey.behind.push(delivery);
      this.#bytes += costOf(delivery);
      return false;
    }
    return true;
  }

  /** It is settled. True where another of its lane may follow. */
  leave({ orderingKey: name }: Delivery): boolean {
    const orderingKey = name === undefined ? undefined : this.#lanes.get(name);
    if (orderingKey === undefined) return false;
    orderingKey.handed--;
    if (orderingKey.behind.length > 0) return this.#vacant.push(orderingKey) > 0;
    if (orderingKey.handed === 0) this.#lanes.delete(name!);
    return false;
  }

  /** The next that has waited long enough. */
  next(): Delivery | undefined {
    for (
      let orderingKey = this.#vacant.shift();
      orderingKey !== undefined;
      orderingKey = this.#vacant.shift()
    ) {
      const delivery = orderingKey.behind.shift();
      // While nothing could be handed over, a lane may have become vacant more often than it has messages.
      if (delivery === undefined) continue;
      orderingKey.handed++;
      this.#bytes -= costOf(delivery);
      return delivery;
    }
    return undefined;
  }

  clear(): void {
    this.#lanes.clear();
    this.#vacant = [];
    this.#bytes = 0;
  }
}

function costOf({ message }: Delivery): number {
  return messageBytes + (message.body?.length ?? 0);
}
