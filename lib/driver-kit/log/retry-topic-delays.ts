import { headerNames, readTime } from '../../core/message/headers.js';
import type { LogRecord } from './log-record.js';
import { maxRequestedDelayMs } from '../../core/retry/retry-policy.js';

// Delays of the retry topics of a log, on Kafka and in the memory log broker.

/**
 * Delay of the retry topic whose messages are handled at once: dead letters that are replayed, and messages
 * that return to one of several handlers.
 */
export const replayDelayMs = 0;

/** The delays for which a subscription to a log has retry topics. */
export class RetryTopicDelays {
  readonly #declared: readonly number[];
  readonly #unhandledMs: number | undefined;

  /**
   * @param declared delays of the handlers' retries, in ascending order, each from 1
   * @param unhandledMs delay of messages without a handler; retries are not rounded to it
   */
  constructor(declared: readonly number[], unhandledMs?: number) {
    this.#declared = declared;
    this.#unhandledMs = unhandledMs;
  }

  /** Delays of all retry topics of a source, including the one for replays. */
  get topicDelaysMs(): readonly number[] {
    const own = this.#unhandledMs === undefined ? [] : [this.#unhandledMs];
    return [...new Set([replayDelayMs, ...this.#declared, ...own])];
  }

  /**
   * Rounds a delay up to a declared one, or to a multiple of the longest. A message with a longer delay
   * passes through the longest topic several times. Rounding keeps the due times within a topic in
   * ascending order; otherwise a message could wait behind others that are due later. Undefined if no delay
   * was declared.
   */
  roundUp(delayMs: number): number | undefined {
    const longest = this.#declared.at(-1);
    if (longest === undefined) return undefined;
    return this.#declared.find((declared) => declared >= delayMs) ?? Math.ceil(delayMs / longest) * longest;
  }

  /** The delay of the topic in which a message waits first. Undefined if no delay was declared. */
  topicDelayFor(delayMs: number): number | undefined {
    if (delayMs === replayDelayMs || delayMs === this.#unhandledMs) return delayMs;
    return this.#declared.find((declared) => declared >= delayMs) ?? this.#declared.at(-1);
  }
}

/** Delay and clocks by which the consumer of a retry topic computes due times. */
export interface RetryTopicTiming {
  /** Delay of the topic, in milliseconds. */
  readonly delayMs: number;
  readonly now: number;
  /** How far the clock of the writer may be ahead of this process's clock, in milliseconds. */
  readonly clockSkewMs: number;
}

/**
 * When the consumer of a retry topic may process a record: at its due time, but no later than the topic's
 * delay after it was written. A record that is not due then is republished to the retry topic for the rest
 * of its delay. A due time beyond the maximum delay, e.g. in the year 9999, counts as absent.
 */
export function eligibleAt(
  record: Pick<LogRecord, 'headers' | 'timestamp'>,
  timing: RetryTopicTiming,
): number {
  const { delayMs, now, clockSkewMs } = timing;
  if (delayMs === replayDelayMs) return now;
  const { timestamp } = record;
  // A negative timestamp means that the record has none.
  const writtenAt = timestamp < 0 ? now : Math.min(timestamp, now + clockSkewMs);
  return Math.min(dueAtOf(record, timing) ?? Infinity, writtenAt + delayMs);
}

/** The due time of an eligible record that is not due yet; undefined if it is due. */
export function remainingDueAt(
  record: Pick<LogRecord, 'headers'>,
  timing: Pick<RetryTopicTiming, 'delayMs' | 'now'>,
): number | undefined {
  const dueAt = timing.delayMs === replayDelayMs ? undefined : dueAtOf(record, timing);
  return dueAt !== undefined && dueAt > timing.now ? dueAt : undefined;
}

/**
 * The requested delay is limited, and rounding adds less than the longest topic delay: a later due time is
 * forged.
 */
function dueAtOf(
  { headers }: Pick<LogRecord, 'headers'>,
  { delayMs, now }: Pick<RetryTopicTiming, 'delayMs' | 'now'>,
): number | undefined {
  const dueAt = readTime(headers, headerNames.dueAt);
  return dueAt === undefined || dueAt > now + maxRequestedDelayMs + delayMs ? undefined : dueAt;
}
