import { deadLetterTopic } from '../../driver-kit/log/topic-names.js';
import type { RetryTopics } from './retry-topics.js';

// Which topics stork creates for a source topic, and with which configuration: its dead letter topics and
// its retry topics. `retry-topics.ts` names the retry topics of a group; `topology.ts` creates the topics
// and checks existing ones; the markers topic of a dead letter topic is created on first use
// (`dead-letters/dead-letter-topics.ts`).

/** A topic that a source topic requires, and its configuration. */
export interface ManagedTopic {
  readonly topic: string;
  /** For log lines. */
  readonly kind: 'retry topic' | 'dead letter topic';
  /** Consequence of a weaker configuration, for log lines. */
  readonly risk: string;
  readonly config: Readonly<Record<string, string>>;
}

/** A republished message carries more headers than the original, so its topic accepts larger records. */
const headerAllowanceBytes = 64 * 1024;
const weekMs = 7 * 24 * 60 * 60 * 1_000;

/**
 * @param maxMessageBytes `max.message.bytes` of the source topic; undefined if it may not be read
 * @param targets dead letter topics that handlers name instead of the default one
 */
export function managedTopicsOf(
  source: string,
  retries: RetryTopics,
  maxMessageBytes: number | undefined,
  targets: readonly string[],
): readonly ManagedTopic[] {
  const retryTopics = [...retries.topicsOf(source)].map(([topic, delayMs]): ManagedTopic => ({
    topic,
    kind: 'retry topic',
    risk: 'may lose messages that wait in it',
    config: retryTopicConfig(delayMs, maxMessageBytes),
  }));
  const deadLetterTopics = [deadLetterTopic(source), ...targets].map((topic): ManagedTopic => ({
    topic,
    kind: 'dead letter topic',
    risk: 'may lose dead letters',
    config: deadLetterTopicConfig(maxMessageBytes),
  }));
  return [...deadLetterTopics, ...retryTopics];
}

/** Without retention: a dead letter is kept until it is replayed or discarded by an operator. */
export function deadLetterTopicConfig(maxMessageBytes: number | undefined): Readonly<Record<string, string>> {
  return republishedConfig(-1, maxMessageBytes);
}

export function retryTopicConfig(
  delayMs: number,
  maxMessageBytes: number | undefined,
): Readonly<Record<string, string>> {
  return republishedConfig(Math.max(weekMs, 2 * delayMs), maxMessageBytes);
}

function republishedConfig(retentionMs: number, maxMessageBytes: number | undefined): Record<string, string> {
  const config: Record<string, string> = { 'cleanup.policy': 'delete', 'retention.ms': String(retentionMs) };
  if (maxMessageBytes !== undefined)
    config['max.message.bytes'] = String(maxMessageBytes + headerAllowanceBytes);
  return config;
}

/**
 * Whether an existing topic may lose messages where the wanted setting would not. Longer retention and
 * larger records are fine.
 */
export function isWeaker(setting: string, given: string | undefined, wanted: string): boolean {
  if (given === undefined || given === wanted) return false;
  if (setting === 'max.message.bytes') return Number(given) < Number(wanted);
  if (setting === 'retention.ms') return retentionOf(given) < retentionOf(wanted);
  return true;
}

/** A negative `retention.ms` means unlimited. */
function retentionOf(text: string): number {
  const ms = Number(text);
  return ms < 0 ? Infinity : ms;
}
