import { expect, it } from 'vitest';
import type { SubscribedPattern, SubscriptionSpec } from '../../../../lib/core/port/driver.js';
import { patternFromString, patternFromRegExp } from '../../../../lib/core/message/pattern.js';
import { findPatternProblems, TopicSelection } from '../../../../lib/driver-kit/log/topic-selection.js';

type Wishes = Partial<Pick<SubscribedPattern, 'order' | 'delivery' | 'handlerNames'>>;

function pattern(given: string | RegExp, wishes: Wishes = {}): SubscribedPattern {
  const read = typeof given === 'string' ? patternFromString(given) : patternFromRegExp(given);
  return { ...read, order: 'key', delivery: 'at-least-once', handlerNames: ['A.b'], ...wishes };
}

const spec = (...patterns: SubscribedPattern[]): SubscriptionSpec => ({
  id: 'main',
  patterns,
  concurrency: 1,
  redeliverDelaysMs: [],
  maxHoldTime: { handler: 'A.b', waitMs: 0, attempts: 1, timeoutMs: 0 },
  deadLetterTargets: [],
});

it('each pattern is a topic where the options name none', () => {
  const selection = new TopicSelection({}, spec(pattern('a'), pattern('b'), pattern('a')));
  expect(selection.names).toEqual(['a', 'b']);
  expect(selection.isOpen).toBe(false);
  expect(['a', 'b', 'c', 'a.dlq'].filter((topic) => selection.reads(topic))).toEqual(['a', 'b']);
});

it('the options name them instead', () => {
  expect(new TopicSelection({ topic: 't' }, spec(pattern('a'))).names).toEqual(['t']);
  expect(new TopicSelection({ topics: ['t', 'u', /^v/] }, spec(pattern('a'))).names).toEqual(['t', 'u']);
});

it('a RegExp never reads companions of ours, unless one is named', () => {
  const selection = new TopicSelection({ topics: [/.*/g, 'x.dlq'] }, spec(pattern('a')));
  expect(selection.isOpen).toBe(true);
  const companions = ['a.dlq', 'a.dlq.marks', 'a.reply', 'a.retry.g.5000', '__consumer_offsets'];
  expect(companions.filter((topic) => selection.reads(topic))).toEqual([]);
  // Twice: a RegExp with the flag g remembers where it was.
  for (const topic of ['a', 'a', 'x.dlq', 'retry', 'reply'])
    expect([topic, selection.reads(topic)]).toEqual([topic, true]);
});

it('a topic is consumed as its pattern wishes, or as all agree where it is shared', () => {
  const patterns = [pattern('a', { order: 'none' }), pattern(/^b/, { delivery: 'at-most-once' })];
  const own = new TopicSelection({}, spec(...patterns));
  expect(own.sourceSettingsOf('a')).toMatchObject({ order: 'none', delivery: 'at-least-once' });
  expect(own.sourceSettingsOf('bcd')).toMatchObject({ order: 'key', delivery: 'at-most-once' });
  const shared = new TopicSelection({ topic: 't' }, spec(patterns[0]!));
  expect(shared.sourceSettingsOf('t')).toMatchObject({ order: 'none' });
});

it.each([['{"cmd":"x"}'], ['order.*'], ['a b'], ['.'], ['ä']])('%s is no topic', (text) => {
  const wrong = { ...pattern('x'), text };
  const [problem] = findPatternProblems(spec(wrong), {}, 'main');
  expect(problem!.name).toContain('A.b');
  expect(problem!.expected).toContain('patternHeader');
  expect(findPatternProblems(spec(wrong), { topic: 't', patternHeader: 'kind' }, 'main')).toEqual([]);
});

it('a pattern that no topic of the options can be is named', () => {
  expect(findPatternProblems(spec(pattern('a')), { topics: ['b', 'c'] }, 'main')[0]!.expected).toContain(
    'b, c',
  );
  expect(findPatternProblems(spec(pattern('a')), { topics: ['a', 'c'] }, 'main')).toEqual([]);
  expect(findPatternProblems(spec(pattern('a')), { topics: [/b/] }, 'main')).toEqual([]);
  expect(findPatternProblems(spec(pattern(/^b/)), { topics: ['bc'] }, 'main')).toEqual([]);
});

it('patterns of one topic that disagree are named', () => {
  const torn = spec(pattern('a', { order: 'none' }), pattern('b', { handlerNames: ['C.d'] }));
  expect(findPatternProblems(torn, {}, 'main')).toEqual([]);
  const [problem] = findPatternProblems(torn, { topic: 't', patternHeader: 'kind' }, 'main');
  expect(JSON.stringify(problem)).toMatch(/A\.b.*C\.d|C\.d.*A\.b/);
});
