import { describe, expect, it } from 'vitest';
import { readArguments, rows, verdictOf } from '../../bench/parts.mjs';

describe('arguments of the bench', () => {
  it('choose every row and five rounds by default', () => {
    expect(readArguments([], rows)).toMatchObject({ only: undefined, rounds: 5, against: undefined });
  });

  it('choose three rows against a revision', () => {
    const { against, only } = readArguments(['--against', 'HEAD~1'], rows);
    expect(against).toBe('HEAD~1');
    expect(only).toEqual(['pipeline', 'rabbitmq-events', 'kafka-events']);
  });

  it('let --only choose other rows against a revision', () => {
    const args = ['--against', 'v1', '--only', 'policies,kafka-emit', '--rounds', '3'];
    expect(readArguments(args, rows)).toMatchObject({ only: ['policies', 'kafka-emit'], rounds: 3 });
  });

  it('let --only choose a group of rows', () => {
    expect(readArguments(['--only', 'start'], rows).only).toEqual(['start-import', 'start-first-message']);
  });

  it.each([
    [['--only', 'pipelines'], 'no row "pipelines"'],
    [['--rounds', '0'], '--rounds takes a count'],
    [['--against', ''], '--against takes a commit'],
    [['--against'], '--against'],
  ])('refuse %j', (args, message) => {
    expect(() => readArguments(args, rows)).toThrow(message);
  });
});

describe('the result of a row', () => {
  it.each([
    [[0.95, 0.5], 'no worse'],
    [[0.949, 0.951], 'no worse'],
    [[1.4, 1.3], 'no worse'],
    [[0.949, 0.949], 'worse'],
  ] as const)('of medians %j is "%s"', (ratios, verdict) => {
    expect(verdictOf(ratios)).toBe(verdict);
  });
});
