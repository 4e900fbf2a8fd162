import {
  sourceSettingsOf,
  findConflicts,
  findConflictsByPattern,
  type SourceSettings,
} from '../../driver-kit/source-settings.js';
import type { SubscribedPattern, SubscriptionSpec } from '../../core/port/driver.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { isManagedTopic, validTopicName } from '../../driver-kit/log/topic-names.js';
import { matches, patternFromRegExp } from '../../core/message/pattern.js';
import type { KafkaOptions } from '../options/options.js';

type Selecting = Pick<KafkaOptions, 'topic' | 'topics' | 'patternHeader'>;

/** Which topics a subscription reads: those that the options name, else each pattern is one. */
export class TopicSelection {
  readonly #names: readonly string[];
  readonly #regExps: readonly RegExp[];
  readonly #patterns: readonly SubscribedPattern[];
  readonly #shared: boolean;

  constructor({ topic, topics }: Selecting, spec: SubscriptionSpec) {
    const named = topics ?? (topic === undefined ? undefined : [topic]);
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

  /** Whether topics that are made later may belong to it. */
  get isOpen(): boolean {
    return this.#regExps.length > 0;
  }

  /** Never a companion: its letters would be buried again without end. One that is named is meant. */
  reads(topic: string): boolean {
    if (this.#names.includes(topic)) return true;
    return !isManagedTopic(topic) && this.#regExps.some((regExp) => regExp.test(topic));
  }

  /** Patterns whose messages share a topic agree. */
  sourceSettingsOf(topic: string): SourceSettings {
    return sourceSettingsOf(this.#patterns, this.#shared ? undefined : topic);
  }
}

/** What Kafka could never carry, and what nothing could ever reach. */
export function findPatternProblems(
  spec: SubscriptionSpec,
  options: Selecting,
  transport: string,
): ConfigProblem[] {
  const { topic, topics, patternHeader } = options;
  const where = `on the transport ${JSON.stringify(transport)}`;
  const named = topics ?? (topic === undefined ? undefined : [topic]);
  if (named !== undefined) {
    return [
      ...findConflicts(spec.patterns, `the topics ${where}`),
      ...(patternHeader === undefined ? unreachable(spec, named, where) : []),
    ];
  }
  const illegal = spec.patterns
    .filter(({ kind, text }) => kind !== 'regexp' && !validTopicName.test(text))
    .map(({ text, handlerNames: places }) => ({
      name: `pattern ${text} of ${places.join(' and ')} ${where}`,
      expected:
        'a topic name of letters, digits, _, . and -; or topic with patternHeader, or via() another transport',
      given: text,
    }));
  return [...illegal, ...findConflictsByPattern(spec.patterns)];
}

/** Without a header the topic's name is the pattern. */
function unreachable(
  spec: SubscriptionSpec,
  named: readonly (string | RegExp)[],
  where: string,
): ConfigProblem[] {
  if (named.some((source) => source instanceof RegExp)) return [];
  return spec.patterns
    .filter((pattern) => !named.some((topic) => matches(pattern, String(topic))))
    .map(({ text, handlerNames: places }) => ({
      name: `pattern ${text} of ${places.join(' and ')} ${where}`,
      expected: `one of the topics ${named.join(', ')}; or patternHeader, the header that holds the pattern`,
      given: text,
    }));
}
