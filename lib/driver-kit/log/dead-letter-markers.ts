import { headerNames, readText } from '../../core/message/headers.js';
import type { LogRecord } from './log-record.js';

// A log keeps its letters; which of them are done with, a second topic remembers beside it: the same on Kafka and in memory.

/** What was done to a letter. */
export interface DeadLetterMarker {
  readonly action: 'replayed' | 'discarded';
  /** ISO 8601 UTC. */
  readonly at: string;
  /** Who did it: `<hostname>/<pid>`. */
  readonly by: string;
}

export function markersTopic(deadLetterTopic: string): string {
  return `${deadLetterTopic}.marks`;
}

/** The time is part of it: a topic that is made anew begins at offset 0 again, and must not inherit marks. */
export function markerKey({
  partition,
  offset,
  headers,
}: Pick<LogRecord, 'partition' | 'offset' | 'headers'>): string {
  return `${partition}/${offset}/${readText(headers, headerNames.failedAt) ?? ''}`;
}

export function encodeMarker(marker: DeadLetterMarker): Buffer {
  return Buffer.from(JSON.stringify(marker));
}
