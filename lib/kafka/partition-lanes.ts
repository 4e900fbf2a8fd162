import type { FetchedRecord } from './client.js';

/** Records of a lane that core has at once: enough that the next is there when one ends, few enough that no lane fills core's window. */
const laneDepth = 4;
/** What a record costs in memory besides its bytes, roughly. */
const recordCost = 1_000;

interface Lane {
  /** Records that core has. */
  handed: number;
  /** Those that come after them, in order. */
  readonly behind: FetchedRecord[];
}

/** Records of a partition that wait behind others of their lane: handed over they would take the places of those that can run. */
export class PartitionLanes {
  readonly #lanes = new Map<string, Lane>();
  /** With room for one of their own, once for each. */
  #vacant: Lane[] = [];
  #bytes = 0;

  /** Bytes in memory of what waits here, roughly. */
  get bytes(): number {
    return this.#bytes;
  }

  /** False where it has to wait; `next` gives it out then. */
  admit(name: string, record: FetchedRecord): boolean {
    const lane = this.#lanes.get(name);
    if (lane === undefined) {
      this.#lanes.set(name, { handed: 1, behind: [] });
      return true;
    }
    if (lane.handed < laneDepth && lane.behind.length === 0) {
      lane.handed++;
      return true;
    }
    lane.behind.push(record);
    this.#bytes += costOf(record);
    return false;
  }

  /** One of the lane is settled. True where another may follow. */
  leave(name: string): boolean {
    const lane = this.#lanes.get(name);
    if (lane === undefined) return false;
    lane.handed--;
    if (lane.behind.length > 0) return this.#vacant.push(lane) > 0;
    if (lane.handed === 0) this.#lanes.delete(name);
    return false;
  }

  /** The next that has waited long enough. */
  next(): FetchedRecord | undefined {
    const lane = this.#vacant.shift();
    const record = lane?.behind.shift();
    if (lane === undefined || record === undefined) return undefined;
    lane.handed++;
    this.#bytes -= costOf(record);
    return record;
  }

  clear(): void {
    this.#lanes.clear();
    this.#vacant = [];
    this.#bytes = 0;
  }
}

function costOf({ value }: FetchedRecord): number {
  return recordCost + (value?.length ?? 0);
}
