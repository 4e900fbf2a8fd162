import type { StorkClock } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import { nameOf, type KafkaConsumer } from '../client/client.js';
import type { DelayBufferBounds } from '../retry/delay-buffer.js';
import type { OwnedPartition } from './owned-partition.js';

/** What tells how much is fetched. */
export interface FetchFlowFields {
  readonly consumer: Pick<KafkaConsumer, 'pause' | 'resume'>;
  /** Bytes of a fetch, and of what may wait for its turn. */
  readonly maxBytes: number;
  readonly maxOffsetGap: number;
  readonly name: string;
  readonly clock: StorkClock;
  readonly logger: StorkLogger;
  /** All that are ours. */
  readonly line: () => readonly OwnedPartition[];
  /** Records looked at, ever. */
  readonly handed: () => number;
}

/** Fetched records at which the next fetch waits. Half of them last longer than a fetch of paused partitions sleeps. */
const enoughRecords = 20_000;
/** Records of retry topics that wait in memory until they are due, over all partitions; of bytes as many as a fetch may bring. */
const mostWaiting = 20_000;
/** How long a fetch is held up before its partitions are paused: going on is immediate then, and after a pause it is not. */
const holdMs = 200;
/** And while records are being handed over: heartbeats wait for it. */
const longestHoldMs = 1_000;

/** How much is fetched: what waits in memory, over all partitions, decides when a fetch waits, and which partitions pause. */
export class FetchBackpressure {
  readonly #fields: FetchFlowFields;
  /** What may wait in each partition of a retry topic. */
  #dueBounds: DelayBufferBounds = { records: 0, bytes: 0 };
  #room: { readonly promise: Promise<void>; resolve(): void } | undefined;

  constructor(fields: FetchFlowFields) {
    this.#fields = fields;
  }

  /** For as many as there are now: a long delay must not take the places of a short one. */
  shareDueBounds(): void {
    const sharing = Math.max(1, this.#fields.line().filter(({ delayMs }) => delayMs !== undefined).length);
    const records = Math.ceil(mostWaiting / sharing);
    this.#dueBounds = { records, bytes: Math.ceil(this.#fields.maxBytes / sharing) };
  }

  /** After more of it was taken in, and handed over as far as that went. A promise holds the next fetch up. */
  taken(partition: OwnedPartition): void | Promise<void> {
    if (partition.isHeldUp) this.#holdUp(partition);
    if (partition.waitsFor(this.#dueBounds)) this.pause(partition);
    if (!this.#hasEnough()) return;
    return this.#waitForRoom();
  }

  /** Has as much fetched again as there is room for. */
  makeRoom(): void {
    const line = this.#fields.line();
    const isWaiting = this.#room !== undefined || line.some(({ paused }) => paused);
    if (!isWaiting || this.#hasEnough(2)) return;
    this.#room?.resolve();
    this.#room = undefined;
    for (const partition of line) {
      const { paused, started, isHeldUp, isClogged } = partition;
      if (!paused || !started || isHeldUp || isClogged) continue;
      if (!partition.waitsFor(half(this.#dueBounds))) this.resume(partition);
    }
  }

  /** Lets a fetch that waits go on: nothing more is taken of it. */
  letGo(): void {
    this.#room?.resolve();
  }

  pause(partition: OwnedPartition): void {
    if (partition.paused) return;
    partition.paused = true;
    this.#fields.consumer.pause([partition]);
  }

  resume(partition: OwnedPartition): void {
    if (!partition.paused) return;
    partition.paused = false;
    this.#fields.consumer.resume([partition]);
  }

  #holdUp(partition: OwnedPartition): void {
    if (partition.paused) return;
    const { logger, name, maxOffsetGap } = this.#fields;
    logger.warn(
      `${name}: ${nameOf(partition)} waits for its record ${partition.oldestUnsettled}, which is not settled; ` +
        `maxOffsetGap allows ${maxOffsetGap} beyond it`,
    );
    this.pause(partition);
  }

  /** Holding the fetch up lets it go on at once; a fetch of paused partitions alone sleeps. */
  async #waitForRoom(): Promise<void> {
    const { clock, handed, line } = this.#fields;
    this.#room ??= withResolvers<void>();
    const room = this.#room;
    for (let heldMs = 0; heldMs < longestHoldMs; heldMs += holdMs) {
      const before = handed();
      if (await settlesWithin(clock, room.promise, holdMs)) return;
      // Whatever is stuck must not hold the others up.
      if (handed() === before) break;
    }
    for (const partition of line()) if (partition.waiting > 0) this.pause(partition);
    room.resolve();
    if (this.#room === room) this.#room = undefined;
  }

  /** What is held up by one record does not count: others must not wait for it. */
  #hasEnough(divisor = 1): boolean {
    const { line, maxBytes } = this.#fields;
    let records = 0;
    let bytes = 0;
    for (const partition of line()) {
      if (partition.isHeldUp || (partition.paused && partition.isClogged)) continue;
      records += partition.waiting;
      bytes += partition.waitingBytes;
    }
    return records * divisor > enoughRecords || bytes * divisor > maxBytes;
  }
}

/** Going on takes until the next fetch: by then there must still be something to take up. */
function half({ records, bytes }: DelayBufferBounds): DelayBufferBounds {
  return { records: records / 2, bytes: bytes / 2 };
}
