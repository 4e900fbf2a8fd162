import { headerNames, readTime } from '../../core/message/headers.js';
import type { LogRecord } from './log-record.js';
import { maxRequestedDelayMs } from '../../core/retry/retry-policy.js';

// How long messages wait in the retry topics of a log: the same on Kafka and in memory.

/** Of the retry topic that dead letters are replayed to: what is there runs at once. */
export const replayDelayMs = 0;

/** The delays for which a subscription to a log has retry topics. */
export class RetryTopicDelays {
  readonly #declared: readonly number[];

  /** @param declared rising, each from 1 */
  constructor(declared: readonly number[]) {
    this.#declared = declared;
  }

  /** One topic each. */
  get topicDelaysMs(): readonly number[] {
    return [replayDelayMs, ...this.#declared];
  }

  /**
   * The next longer delay that was declared, beyond the longest a multiple of it: a message goes round until it is due, and due times within a
   * topic rise, or it would wait behind others. Undefined where none was declared.
   */
  roundUp(delayMs: number): number | undefined {
    const longest = this.#declared.at(-1);
    if (longest === undefined) return undefined;
    return this.#declared.find((declared) => declared >= delayMs) ?? Math.ceil(delayMs / longest) * longest;
  }

  /** The delay of the topic in which a message waits, or begins to. Undefined where none was declared. */
  topicDelayFor(delayMs: number): number | undefined {
    return this.#declared.find((declared) => declared >= delayMs) ?? this.#declared.at(-1);
  }
}

/** How the reader of a retry topic sees time. */
export interface RetryTopicTiming {
  /** The topic's. */
  readonly delayMs: number;
  readonly now: number;
  /** How far the writer's clock may be ahead of ours. */
  readonly clockSkewMs: number;
}

/**
 * When a record of a retry topic is to be taken up: when it is due, and no later than its topic's delay after it was written. What is not
 * due then goes round. A due time that nobody of ours writes, e.g. of the year 9999, counts as none.
 */
export function eligibleAt(
  record: Pick<LogRecord, 'headers' | 'timestamp'>,
  timing: RetryTopicTiming,
): number {
  const { delayMs, now, clockSkewMs } = timing;
  if (delayMs === replayDelayMs) return now;
  const { timestamp } = record;
  // Below zero a record says that it has none.
  const writtenAt = timestamp < 0 ? now : Math.min(timestamp, now + clockSkewMs);
  return Math.min(dueAtOf(record, timing) ?? Infinity, writtenAt + delayMs);
}

/** When a record of a retry topic that was taken up is due, if that is still to come. */
export function remainingDueAt(
  record: Pick<LogRecord, 'headers'>,
  timing: Pick<RetryTopicTiming, 'delayMs' | 'now'>,
): number | undefined {
  const dueAt = timing.delayMs === replayDelayMs ? undefined : dueAtOf(record, timing);
  return dueAt !== undefined && dueAt > timing.now ? dueAt : undefined;
}

/** A handler may ask for a day, and beyond the longest delay that is rounded up to a multiple of it. */
function dueAtOf(
  { headers }: Pick<LogRecord, 'headers'>,
  { delayMs, now }: Pick<RetryTopicTiming, 'delayMs' | 'now'>,
): number | undefined {
  const dueAt = readTime(headers, headerNames.dueAt);
  return dueAt === undefined || dueAt > now + maxRequestedDelayMs + delayMs ? undefined : dueAt;
}
