import type { Delivery } from '../core/delivery.js';

/** Messages of a lane that core has at once: enough that the next is there when one ends, few enough that no lane fills core's window. */
const laneDepth = 4;
/** What a message costs in memory besides its body, roughly. */
const messageBytes = 1_000;

interface Lane {
  /** Messages that core has. */
  handed: number;
  /** Those that come after them, in order. */
  readonly behind: Delivery[];
}

/** Messages of a partition that wait behind others of their lane: handed over, they would take the places of those that can run. */
export class PartitionLanes {
  readonly #lanes = new Map<string, Lane>();
  /** With room for one of those behind, each as often as it has. */
  #vacant: Lane[] = [];
  #bytes = 0;

  /** What waits here, with a guess at what an object costs. */
  get bytes(): number {
    return this.#bytes;
  }

  /** False where it has to wait; `next` gives it out then. */
  admit(delivery: Delivery): boolean {
    const { lane: name, mode } = delivery;
    // A handler that keeps messages for later may need many before it settles one.
    if (name === undefined || mode === 'manual') return true;
    const lane = this.#lanes.get(name);
    if (lane === undefined) this.#lanes.set(name, { handed: 1, behind: [] });
    else if (lane.handed < laneDepth && lane.behind.length === 0) lane.handed++;
    else {
      lane.behind.push(delivery);
      this.#bytes += costOf(delivery);
      return false;
    }
    return true;
  }

  /** It is settled. True where another of its lane may follow. */
  leave({ lane: name }: Delivery): boolean {
    const lane = name === undefined ? undefined : this.#lanes.get(name);
    if (lane === undefined) return false;
    lane.handed--;
    if (lane.behind.length > 0) return this.#vacant.push(lane) > 0;
    if (lane.handed === 0) this.#lanes.delete(name!);
    return false;
  }

  /** The next that has waited long enough. */
  next(): Delivery | undefined {
    for (let lane = this.#vacant.shift(); lane !== undefined; lane = this.#vacant.shift()) {
      const delivery = lane.behind.shift();
      // While nothing could be handed over, a lane may have become vacant more often than it has messages.
      if (delivery === undefined) continue;
      lane.handed++;
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
