import { createHash } from 'node:crypto';
import { printable } from '../../core/message/text.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';

/** What Kafka takes as a topic's name. */
export const validTopicName = /^(?!\.\.?$)[\w.-]{1,249}$/;

/** Companions of ours: never read by a RegExp, or their messages would be dead-lettered again without end. */
export function isManagedTopic(topic: string): boolean {
  return /(\.dlq|\.dlq\.marks|\.reply)$|\.retry\.|^__/.test(topic);
}

export function deadLetterTopic(topic: string): string {
  return `${toValidName(topic)}.dlq`;
}

/** The topic whose letters lie there; undefined for any other. */
export function sourceOfDeadLetterTopic(topic: string): string | undefined {
  return topic.endsWith('.dlq') ? topic.slice(0, -'.dlq'.length) : undefined;
}

/**
 * Characters that no topic's name may have, and names that are too long, become a hash: two of them must not fall together.
 *
 * @param whole what it stands for, where something was left out
 * @param isAmbiguous whether another name could differ from it by `.` and `_` alone, which the broker takes for the same
 */
function toValidName(text: string, whole = text, isAmbiguous = false): string {
  const legal = text.replaceAll(/[^\w.-]/g, '-').slice(0, maxPrefixLength);
  if (legal === whole && !isAmbiguous) return whole;
  return `${legal}-${createHash('sha256').update(whole).digest('hex').slice(0, 8)}`;
}

/** Leaves room for the hash and for what companions append. */
const maxPrefixLength = 220;
/** Characters of a group that stay in a name that is too long. */
const minGroupLength = 60;

/** Where messages of a group wait for their next run, apart from those of other groups and of other delays. */
export function retryTopic(topic: string, group: string, delayMs: number): string {
  return `${retryPrefix(topic, group)}${delayMs}`;
}

/** What a topic is to whoever reads it. */
export interface ConsumedTopic {
  /** The topic whose messages it holds: its own name, but on a retry topic. */
  readonly source: string;
  /** How long messages wait in a retry topic; undefined on a source. */
  readonly delayMs: number | undefined;
}

/** Which of these names are retry topics of the group, and whose. */
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

/** Two sources cannot differ by `.` and `_` alone; two groups can. What is between the two tells a companion, so that stays. */
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
