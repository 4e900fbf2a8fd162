import { consumptionOf, findDisagreements, findDisagreementsByPattern } from '../core/consumption.js';
import { isCompanion, legalTopic } from '../core/log-records.js';
import { matches, patternFromRegExp } from '../core/pattern.js';
/** Which topics a subscription reads: those that the options name, else each pattern is one. */
export class TopicSelection {
  #names;
  #regExps;
  #patterns;
  #shared;
  constructor({ topic, topics }, spec) {
    const named = topics ?? (topic === undefined ? undefined : [topic]);
    const sources = named ?? spec.patterns.map(({ text, regExp }) => regExp ?? text);
    this.#names = [...new Set(sources.filter((source) => typeof source === 'string'))];
    this.#regExps = sources
      .filter((source) => source instanceof RegExp)
      .map((source) => patternFromRegExp(source).regExp);
    this.#patterns = spec.patterns;
    this.#shared = named !== undefined;
  }
  /** Topics that must exist. */
  get names() {
    return this.#names;
  }
  /** Whether topics that are made later may belong to it. */
  get isOpen() {
    return this.#regExps.length > 0;
  }
  /** Never a companion: its letters would be buried again without end. One that is named is meant. */
  reads(topic) {
    if (this.#names.includes(topic)) return true;
    return !isCompanion(topic) && this.#regExps.some((regExp) => regExp.test(topic));
  }
  /** Patterns whose messages share a topic agree. */
  consumptionOf(topic) {
    return consumptionOf(this.#patterns, this.#shared ? undefined : topic);
  }
}
/** What Kafka could never carry, and what nothing could ever reach. */
export function findPatternProblems(spec, options, transport) {
  const { topic, topics, patternHeader } = options;
  const where = `on the transport ${JSON.stringify(transport)}`;
  const named = topics ?? (topic === undefined ? undefined : [topic]);
  if (named !== undefined) {
    return [
      ...findDisagreements(spec.patterns, `the topics ${where}`),
      ...(patternHeader === undefined ? unreachable(spec, named, where) : []),
    ];
  }
  const illegal = spec.patterns
    .filter(({ kind, text }) => kind !== 'regexp' && !legalTopic.test(text))
    .map(({ text, places }) => ({
      name: `pattern ${text} of ${places.join(' and ')} ${where}`,
      expected:
        'a topic name of letters, digits, _, . and -; or topic with patternHeader, or via() another transport',
      given: text,
    }));
  return [...illegal, ...findDisagreementsByPattern(spec.patterns)];
}
/** Without a header the topic's name is the pattern. */
function unreachable(spec, named, where) {
  if (named.some((source) => source instanceof RegExp)) return [];
  return spec.patterns
    .filter((pattern) => !named.some((topic) => matches(pattern, String(topic))))
    .map(({ text, places }) => ({
      name: `pattern ${text} of ${places.join(' and ')} ${where}`,
      expected: `one of the topics ${named.join(', ')}; or patternHeader, the header that holds the pattern`,
      given: text,
    }));
}
