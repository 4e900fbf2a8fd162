import { existsSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Seconds by file, from the project's folder. `STORK_RECORD_DURATIONS=1 npm run test:all` writes it. */
export const durationsFile = fileURLToPath(new URL('durations.json', import.meta.url));

/** A new test against brokers may be a long one, so it starts before those that are known to be short. */
const unknownSeconds = { unit: 0, other: 20 };

export function durations(): Readonly<Record<string, number>> {
  return existsSync(durationsFile) ? JSON.parse(readFileSync(durationsFile, 'utf8')) : {};
}

/**
 * Starts the files that take longest first: test files mostly wait for brokers, and one of two minutes that begins
 * last would make the whole run two minutes longer.
 */
export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const known = durations();
    const secondsOf = ({ moduleId }: TestSpecification): number => {
      const file = relative(this.ctx.config.root, moduleId);
      return known[file] ?? unknownSeconds[file.startsWith('test/unit/') ? 'unit' : 'other'];
    };
    return files.toSorted((a, b) => secondsOf(b) - secondsOf(a) || a.moduleId.localeCompare(b.moduleId));
  }
}
