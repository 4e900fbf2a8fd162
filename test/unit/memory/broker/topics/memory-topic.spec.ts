import { describe, expect, it } from 'vitest';
import { MemoryTopic, type RecordToAppend } from '../../../../../lib/memory/broker/topics/memory-topic.js';
import { murmur2 } from '../../../../../lib/driver-kit/log/murmur2.js';
import { settle } from '../../harness.js';

function record(text: string, more: Partial<RecordToAppend> = {}): RecordToAppend {
  return { value: Buffer.from(text), headers: {}, timestamp: 1, ...more };
}

describe('MemoryTopic', () => {
  it('numbers the records of each partition from 0', () => {
    const topic = new MemoryTopic('t', 2);
    expect(topic.append(record('a', { partition: 0 }))).toEqual({ partition: 0, offset: 0 });
    expect(topic.append(record('b', { partition: 1 }))).toEqual({ partition: 1, offset: 0 });
    expect(topic.append(record('c', { partition: 0 }))).toEqual({ partition: 0, offset: 1 });
    expect([topic.endOffset(0), topic.endOffset(1)]).toEqual([2, 1]);
  });

  it('keeps a key in one partition and spreads different keys', () => {
    const topic = new MemoryTopic('t', 4);
    const place = (key: string): number => topic.append(record('x', { key })).partition;
    const keys = Array.from({ length: 40 }, (_, i) => `key-${i}`);
    const first = keys.map(place);
    expect(keys.map(place)).toEqual(first);
    expect(new Set(first).size).toBe(4);
  });

  it('places keys as Kafka’s own clients do', () => {
    const hash = (text: string): number => murmur2(Buffer.from(text)) | 0;
    expect(['21', 'foobar', 'a-little-bit-long-string', 'abc'].map(hash)).toEqual([
      -973932308, -790332482, -985981536, 479470107,
    ]);
  });

  it('is round robin over the partitions without a key; an empty key is a key', () => {
    const topic = new MemoryTopic('t', 3);
    const place = (key?: string): number => topic.append(record('x', { key })).partition;
    expect([place(), place(), place(), place()]).toEqual([0, 1, 2, 0]);
    expect(new Set([place(''), place(''), place('')]).size).toBe(1);
  });

  it('refuses a partition that does not exist', () => {
    const topic = new MemoryTopic('t', 2);
    expect(() => topic.append(record('x', { partition: 2 }))).toThrow('Topic "t" has no partition 2 (404)');
    expect(() => topic.append(record('x', { partition: -1 }))).toThrow(/no partition -1/);
    expect(() => topic.read(5, 0, 1)).toThrow(/no partition 5/);
    expect(() => topic.endOffset(5)).toThrow(/no partition 5/);
    expect(() => new MemoryTopic('t', 0)).toThrow(RangeError);
  });

  it('reads from an offset, up to a limit, nothing beyond the end', () => {
    const topic = new MemoryTopic('t', 1);
    for (const text of ['a', 'b', 'c']) topic.append(record(text));
    const read = (offset: number, max: number): string[] =>
      topic.read(0, offset, max).map(({ value }) => value!.toString());
    expect(read(0, 2)).toEqual(['a', 'b']);
    expect(read(1, 10)).toEqual(['b', 'c']);
    expect(read(3, 10)).toEqual([]);
  });

  it('keeps key, tombstone, timestamp and a copy of the headers', () => {
    const topic = new MemoryTopic('t', 1);
    const headers: Record<string, string> = { h: '1' };
    topic.append({ key: 'k', value: null, headers, timestamp: 42 });
    headers['h'] = 'changed';
    const [stored] = topic.read(0, 0, 1);
    expect(stored).toMatchObject({
      topic: 't',
      partition: 0,
      offset: 0,
      key: 'k',
      value: null,
      timestamp: 42,
    });
    expect(stored!.headers['h']).toBe('1');
  });

  it('calls listeners with each record after the appending call stack, until they unsubscribe', async () => {
    const topic = new MemoryTopic('t', 1);
    const heard: number[] = [];
    const stop = topic.onAppend(({ offset }) => void heard.push(offset));
    topic.append(record('a'));
    topic.append(record('b'));
    expect(heard).toEqual([]);
    await settle();
    expect(heard).toEqual([0, 1]);
    topic.append(record('c'));
    stop();
    topic.append(record('d'));
    await settle();
    expect(heard).toEqual([0, 1]);
  });
});
