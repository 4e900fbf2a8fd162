import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesUnder, importsOf, textOf } from './source-files.js';

const files = filesUnder('lib', '.ts');
const imports = new Map(files.map((file) => [file, importsOf(file)]));

/** The first folder below `lib`; undefined for lib/index.ts. */
function roomOf(file: string): string | undefined {
  const parts = file.split('/');
  return parts.length > 2 ? parts[1] : undefined;
}

/** Which other rooms a room may import. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: [],
  'driver-kit': ['core'],
  nest: ['core'],
  rabbitmq: ['nest', 'driver-kit', 'core'],
  kafka: ['nest', 'driver-kit', 'core'],
  memory: ['nest', 'driver-kit', 'core'],
  redis: ['nest', 'core'],
  testing: ['memory', 'nest', 'core'],
  cli: ['rabbitmq', 'kafka', 'nest', 'core'],
};

/** Kinds of drivers: each has the part of driver-kit that is for its kind. */
const kinds: Readonly<Record<string, readonly string[]>> = {
  'lib/rabbitmq/': ['lib/driver-kit/queue/'],
  'lib/memory/queue/': ['lib/driver-kit/queue/'],
  'lib/kafka/': ['lib/driver-kit/log/'],
  'lib/memory/log/': ['lib/driver-kit/log/'],
};

function wrongImports(of: ReadonlyMap<string, readonly string[]>): string[] {
  return [...of].flatMap(([file, targets]) => {
    const room = roomOf(file);
    return targets
      .filter((target) => {
        const other = roomOf(target);
        return room !== undefined && other !== room && !(allowed[room] ?? []).includes(other ?? '');
      })
      .map((target) => `${file} → ${target}`);
  });
}

function wrongKinds(of: ReadonlyMap<string, readonly string[]>): string[] {
  return Object.entries(kinds).flatMap(([place, shared]) =>
    [...of].flatMap(([file, targets]) =>
      targets
        .filter((target) => /^lib\/driver-kit\/\w+\//.test(target))
        .filter((target) => file.startsWith(place) && !shared.some((part) => target.startsWith(part)))
        .map((target) => `${file} → ${target}`),
    ),
  );
}

/** One circle of imports, types included; empty where there is none. */
function findCircle(of: ReadonlyMap<string, readonly string[]>): readonly string[] {
  const done = new Set<string>();
  const walk = (file: string, path: readonly string[]): readonly string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return [];
    for (const target of of.get(file) ?? []) {
      const circle = walk(target, [...path, file]);
      if (circle.length > 0) return circle;
    }
    done.add(file);
    return [];
  };
  for (const file of of.keys()) {
    const circle = walk(file, []);
    if (circle.length > 0) return circle;
  }
  return [];
}

const brokerWords = /rabbit|amqp|kafka|x-death|murmur/i;

describe('the rooms of lib', () => {
  it('hold at most 13 files each', () => {
    const counts = new Map<string, number>();
    for (const file of files) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
    expect([...counts].filter(([, count]) => count > 13)).toEqual([]);
  });

  it('are known, each with what it may import', () => {
    expect([...new Set(files.map(roomOf))].toSorted()).toEqual(
      [...Object.keys(allowed), undefined].toSorted(),
    );
    expect(wrongImports(imports)).toEqual([]);
    expect(wrongKinds(imports)).toEqual([]);
  });

  it('import each other in no circle, types included', () => {
    expect(findCircle(imports)).toEqual([]);
  });

  it('core knows no broker', () => {
    const core = files.filter((file) => roomOf(file) === 'core');
    expect(core.filter((file) => brokerWords.test(file) || brokerWords.test(textOf(file)))).toEqual([]);
  });
});

describe('these checks', () => {
  it('find a wrong import, a circle and a word', () => {
    expect(wrongImports(new Map([['lib/core/a.ts', ['lib/nest/b.ts']]]))).toHaveLength(1);
    expect(wrongImports(new Map([['lib/kafka/a.ts', ['lib/rabbitmq/b.ts', 'lib/core/c.ts']]]))).toHaveLength(
      1,
    );
    expect(wrongKinds(new Map([['lib/rabbitmq/a.ts', ['lib/driver-kit/log/b.ts']]]))).toHaveLength(1);
    expect(
      findCircle(
        new Map([
          ['a', ['b']],
          ['b', ['c']],
          ['c', ['b']],
        ]),
      ),
    ).toEqual(['b', 'c', 'b']);
    expect(brokerWords.test('/** As RabbitMQ does. */')).toBe(true);
  });

  it('see imports of every form', () => {
    expect(importsOf('lib/index.ts')).toContain('lib/nest/stork.module.ts');
    expect(imports.get('lib/nest/stork.module.ts')!.length).toBeGreaterThan(3);
  });
});
