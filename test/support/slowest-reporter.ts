import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { Reporter, TestModule, Vitest } from 'vitest/node';
import { durations, durationsFile } from './longest-first.js';

const shown = 10;
/**
 * Prints the slowest test files after each run. With `STORK_RECORD_DURATIONS=1` it also writes the list by which
 * `longest-first.ts` orders the files.
 */
export default class SlowestReporter implements Reporter {
  #root = '';

  onInit(vitest: Vitest): void {
    this.#root = vitest.config.root;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const files = modules
      .map((module) => ({ file: relative(this.#root, module.moduleId), seconds: secondsOf(module) }))
      .toSorted((a, b) => b.seconds - a.seconds);
    if (files.length > 1) {
      console.log(`\n Slowest of ${files.length} test files`);
      for (const { file, seconds } of files.slice(0, shown))
        console.log(`   ${seconds.toFixed(1).padStart(6)} s  ${file}`);
    }
    if (process.env['STORK_RECORD_DURATIONS'] === '1') record(files);
  }
}

function secondsOf(module: TestModule): number {
  const { duration, collectDuration, setupDuration } = module.diagnostic();
  return (duration + collectDuration + setupDuration) / 1_000;
}

/** Files that did not run keep what was recorded of them. */
function record(files: readonly { readonly file: string; readonly seconds: number }[]): void {
  const all = new Map(Object.entries(durations()));
  for (const { file, seconds } of files) {
    // Unit tests that are not listed start last, so only the long ones have to be.
    if (seconds >= 1 || !file.startsWith('test/unit/')) all.set(file, Math.round(seconds));
    else all.delete(file);
  }
  const sorted = [...all].toSorted(([a, x], [b, y]) => y - x || a.localeCompare(b));
  writeFileSync(durationsFile, `${JSON.stringify(Object.fromEntries(sorted), undefined, 2)}\n`);
}
