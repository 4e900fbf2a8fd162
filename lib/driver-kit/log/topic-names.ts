import { createHash } from 'node:crypto';
import { printable } from '../../core/message/text.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';

/** Kafka's rule for topic names. */
export const validTopicName = /^(?!\.\.?$)[\w.-]{1,249}$/;

/**
 * Dead letter, markers, reply and retry topics, and internal topics of Kafka. A RegExp pattern never
 * subscribes to them: their messages would be dead-lettered again and again.
 */
export function isManagedTopic(topic: string): boolean {
  return /(\.dlq|\.dlq\.marks|\.reply)$|\.retry\.|^__/.test(topic);
}

export function deadLetterTopic(topic: string): string {
  return `${toValidName(topic)}.dlq`;
}

/** The source of a dead letter topic; undefined for any other topic. */
export function sourceOfDeadLetterTopic(topic: string): string | undefined {
  return topic.endsWith('.dlq') ? topic.slice(0, -'.dlq'.length) : undefined;
}

/**
 * Replaces invalid characters and truncates a long name. A changed name gets a hash, so that two names do
 * not become the same topic.
 *
 * @param whole the complete name, if `text` is already shortened
 * @param isAmbiguous whether another name could differ from it only by `.` and `_`, which Kafka rejects as
 * a collision
 */
function toValidName(text: string, whole = text, isAmbiguous = false): string {
  const valid = text.replaceAll(/[^\w.-]/g, '-').slice(0, maxPrefixLength);
  if (valid === whole && !isAmbiguous) return whole;
  return `${valid}-${createHash('sha256').update(whole).digest('hex').slice(0, 8)}`;
}

/** Leaves room for the hash and for the suffix of dead letter and retry topics. */
const maxPrefixLength = 220;
/** Characters of the group that are kept when the name is too long. */
const minGroupLength = 60;

/**
 * The topic in which messages of a group wait for their next attempt. Each group and each delay has its
 * own.
 */
export function retryTopic(topic: string, group: string, delayMs: number): string {
  return `${retryPrefix(topic, group)}${delayMs}`;
}

/** A consumed topic: a source or a retry topic. */
export interface ConsumedTopic {
  /** The topic itself, or the source of a retry topic. */
  readonly source: string;
  /** Delay of a retry topic, in milliseconds; undefined for a source. */
  readonly delayMs: number | undefined;
}

/** The retry topics of the group among these names. */
export function findRetryTopics(
  names: readonly string[],
  sources: readonly string[],
  group: string,
): ReadonlyMap<string, ConsumedTopic> {
  const byPrefix = new Map(sources.map((source) => [retryPrefix(source, group), source]));
  const found = new Map<string, ConsumedTopic>();
  for (const name of names) {
    const end = name.lastIndexOf('.') + 1;
    const source = byPrefix.get(name.slice(0, end));
    const delay = name.slice(end);
    if (source !== undefined && /^\d{1,10}$/.test(delay)) found.set(name, { source, delayMs: Number(delay) });
  }
  return found;
}

/**
 * Kafka does not allow two topics that differ only by `.` and `_`, but two groups may. `.retry.` is never
 * truncated, because it identifies a retry topic.
 */
function retryPrefix(topic: string, group: string): string {
  const infix = '.retry.';
  const room = maxPrefixLength - infix.length - Math.min(group.length, minGroupLength);
  const text = topic.slice(0, room) + infix + group;
  return `${toValidName(text, topic + infix + group, group.includes('_'))}.`;
}

export function validateDeadLetterTopics(targets: readonly string[], transport: string): ConfigProblem[] {
  return targets
    .filter((target) => !validTopicName.test(target))
    .map((target) => ({
      name: `@DeadLetter({ topic }) on the transport ${JSON.stringify(transport)}`,
      expected: 'a topic name: 1 to 249 letters, digits, _, . and -',
      given: printable(target),
    }));
}
