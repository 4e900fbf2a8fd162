import { deadLetterTopic } from '../../driver-kit/log/topic-names.js';
import type { RetryTopics } from './retry-topics.js';

/** A topic that a source cannot do without, as it should be. */
export interface ManagedTopic {
  readonly topic: string;
  /** For messages to people. */
  readonly what: string;
  /** What may happen to messages where it is set up otherwise. */
  readonly risk: string;
  readonly config: Readonly<Record<string, string>>;
}

/** A copy carries more headers than its message. */
const roomForHeaders = 64 * 1024;
const weekMs = 7 * 24 * 60 * 60 * 1_000;

/**
 * @param maxMessageBytes the source's, where it is known
 * @param targets where handlers keep their letters instead
 */
export function managedTopicsOf(
  source: string,
  retries: RetryTopics,
  maxMessageBytes: number | undefined,
  targets: readonly string[],
): readonly ManagedTopic[] {
  const waiting = [...retries.of(source)].map(([topic, delayMs]) => ({
    topic,
    what: 'retry topic',
    risk: 'may lose messages that wait in it',
    config: retryConfig(delayMs, maxMessageBytes),
  }));
  const deadLetters = [deadLetterTopic(source), ...targets].map((topic) => ({
    topic,
    what: 'dead letter topic',
    risk: 'may lose letters',
    config: deadLetterTopicConfig(maxMessageBytes),
  }));
  return [...deadLetters, ...waiting];
}

/** Letters are kept until a person has looked at them. */
export function deadLetterTopicConfig(maxMessageBytes: number | undefined): Readonly<Record<string, string>> {
  return copyConfig(-1, maxMessageBytes);
}

export function retryConfig(
  delayMs: number,
  maxMessageBytes: number | undefined,
): Readonly<Record<string, string>> {
  return copyConfig(Math.max(weekMs, 2 * delayMs), maxMessageBytes);
}

function copyConfig(retentionMs: number, maxMessageBytes: number | undefined): Record<string, string> {
  const config: Record<string, string> = { 'cleanup.policy': 'delete', 'retention.ms': String(retentionMs) };
  if (maxMessageBytes !== undefined) config['max.message.bytes'] = String(maxMessageBytes + roomForHeaders);
  return config;
}

/** One that keeps more, or larger records, than ours would is none the worse. */
export function isWeaker(given: string | undefined, wanted: string, name: string): boolean {
  if (given === undefined || given === wanted) return false;
  if (name === 'max.message.bytes') return Number(given) < Number(wanted);
  if (name === 'retention.ms') return retention(given) < retention(wanted);
  return true;
}

/** Below zero there is no end. */
function retention(text: string): number {
  const ms = Number(text);
  return ms < 0 ? Infinity : ms;
}
