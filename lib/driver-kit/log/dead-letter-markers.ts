import { headerNames, readText } from '../../core/message/headers.js';
import type { LogRecord } from './log-record.js';

// A record cannot be removed from a log. A second topic, the markers topic, records which dead letters were
// replayed or discarded, on Kafka and in the memory log broker.

/** Records that a dead letter was replayed or discarded. */
export interface DeadLetterMarker {
  readonly action: 'replayed' | 'discarded';
  /** ISO 8601 UTC. */
  readonly at: string;
  /** Process that did it: `<hostname>/<pid>`. */
  readonly by: string;
}

export function markersTopic(deadLetterTopic: string): string {
  return `${deadLetterTopic}.marks`;
}

/**
 * The time of failure is part of the key: offsets of a recreated topic start at 0 again, and old markers
 * must not apply to it.
 */
export function markerKeyOf({
  partition,
  offset,
  headers,
}: Pick<LogRecord, 'partition' | 'offset' | 'headers'>): string {
  return `${partition}/${offset}/${readText(headers, headerNames.failedAt) ?? ''}`;
}

export function encodeMarker(marker: DeadLetterMarker): Buffer {
  return Buffer.from(JSON.stringify(marker));
}
