import type { SubscribedPattern, SubscriptionSpec } from '../../core/port/driver.js';
import { matches, patternFromRegExp } from '../../core/message/pattern.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import {
  findConflicts,
  findConflictsByPattern,
  sourceSettingsOf,
  type SourceSettings,
} from '../source-settings.js';
import { isManagedTopic, validTopicName } from './topic-names.js';

/** Options that name the topics of a transport. */
export interface TopicOptions {
  readonly topic?: string | undefined;
  readonly topics?: readonly (string | RegExp)[] | undefined;
  /** Header that holds the pattern; without it the name of the topic is the pattern. */
  readonly patternHeader?: string | undefined;
}

/** Which topics a subscription reads: those that the options name, else one for each pattern. */
export class TopicSelection {
  readonly #names: readonly string[];
  readonly #regExps: readonly RegExp[];
  readonly #patterns: readonly SubscribedPattern[];
  /** Whether messages of every pattern can be in every topic. */
  readonly #shared: boolean;

  constructor(options: TopicOptions, spec: SubscriptionSpec) {
    const named = namedTopics(options);
    const sources = named ?? spec.patterns.map(({ text, regExp }) => regExp ?? text);
    this.#names = [...new Set(sources.filter((source) => typeof source === 'string'))];
    this.#regExps = sources
      .filter((source) => source instanceof RegExp)
      .map((source) => patternFromRegExp(source).regExp!);
    this.#patterns = spec.patterns;
    this.#shared = named !== undefined;
  }

  /** Topics that must exist. */
  get names(): readonly string[] {
    return this.#names;
  }

  /** Whether topics created later can belong to it. */
  get isOpen(): boolean {
    return this.#regExps.length > 0;
  }

  /**
   * A RegExp never selects a retry, dead letter or reply topic: a dead letter that is consumed again
   * fails again and is dead-lettered again. A topic that the options name is always read.
   */
  reads(topic: string): boolean {
    if (this.#names.includes(topic)) return true;
    return !isManagedTopic(topic) && this.#regExps.some((regExp) => regExp.test(topic));
  }

  /** All patterns of one topic have the same settings: `findPatternProblems` reports the others. */
  sourceSettingsOf(topic: string): SourceSettings {
    return sourceSettingsOf(this.#patterns, this.#shared ? undefined : topic);
  }
}

/**
 * The topic of a transport that reads exactly one; undefined if the options name none, several or a
 * RegExp.
 */
export function onlyTopic(options: TopicOptions): string | undefined {
  const [only, ...others] = namedTopics(options) ?? [];
  return typeof only === 'string' && others.length === 0 ? only : undefined;
}

/**
 * Patterns that cannot be topics, patterns that no message can have, and settings that disagree on one
 * topic.
 */
export function findPatternProblems(
  spec: SubscriptionSpec,
  options: TopicOptions,
  transport: string,
): ConfigProblem[] {
  const where = `on the transport ${JSON.stringify(transport)}`;
  const named = namedTopics(options);
  if (named !== undefined) {
    return [
      ...findConflicts(spec.patterns, `the topics ${where}`),
      ...(options.patternHeader === undefined ? findUnreachable(spec, named, where) : []),
    ];
  }
  const illegal = spec.patterns
    .filter(({ kind, text }) => kind !== 'regexp' && !validTopicName.test(text))
    .map(({ text, handlerNames }) => ({
      name: `pattern ${text} of ${handlerNames.join(' and ')} ${where}`,
      expected:
        'a topic name of letters, digits, _, . and -; or topic with patternHeader, or via() another transport',
      given: text,
    }));
  return [...illegal, ...findConflictsByPattern(spec.patterns)];
}

/**
 * Without a pattern header the name of the topic is the pattern, so a pattern must match a topic that is
 * read.
 */
function findUnreachable(
  spec: SubscriptionSpec,
  named: readonly (string | RegExp)[],
  where: string,
): ConfigProblem[] {
  if (named.some((source) => source instanceof RegExp)) return [];
  return spec.patterns
    .filter((pattern) => !named.some((topic) => matches(pattern, String(topic))))
    .map(({ text, handlerNames }) => ({
      name: `pattern ${text} of ${handlerNames.join(' and ')} ${where}`,
      expected: `one of the topics ${named.join(', ')}; or patternHeader, the header that holds the pattern`,
      given: text,
    }));
}

function namedTopics({ topic, topics }: TopicOptions): readonly (string | RegExp)[] | undefined {
  return topics ?? (topic === undefined ? undefined : [topic]);
}
