import { Session, type Profiler } from 'node:inspector';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root } from './source-files.js';

/** For each file of `lib` in which code ran, its functions and how often each was called or resumed. */
export type Calls = ReadonlyMap<string, ReadonlyMap<string, number>>;

/**
 * What Vitest adds to a file: the script and the function around the module's code, and a getter for each
 * export, which runs when another file reads a constant.
 */
const notOfLib = /^('use strict';)?async \(__vite_ssr|^\(\) => \{ try \{ return \w+ \} catch/;

/**
 * Counts the calls of functions of `lib` in this thread. An inspector session in the thread that it inspects
 * answers before `post` returns, so nothing runs between a call of these methods and the count.
 */
export class CallCounter {
  readonly #session = new Session();
  #found: readonly Profiler.ScriptCoverage[] = [];

  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
  }

  /** Counts from here. */
  start(): void {
    this.#session.post('Profiler.takePreciseCoverage');
  }

  /** Counts to here. */
  stop(): void {
    this.#session.post('Profiler.takePreciseCoverage', (error, { result }) => {
      if (error !== null) throw error;
      this.#found = result;
    });
  }

  /** The calls between `start` and `stop`. Module-level code is not counted. */
  calls(): Calls {
    // Sources are read only now: a debugger slows the code that is counted.
    this.#session.post('Debugger.enable');
    const calls = new Map<string, Map<string, number>>();
    for (const script of this.#found) {
      const file = fileOf(script.url);
      if (file === undefined) continue;
      const counts = this.#countsOf(script);
      if (counts.size > 0) calls.set(file, counts);
    }
    this.#session.post('Debugger.disable');
    return calls;
  }

  close(): void {
    this.#session.disconnect();
  }

  #countsOf({ scriptId, functions }: Profiler.ScriptCoverage): Map<string, number> {
    const source = this.#sourceOf(scriptId);
    const counts = new Map<string, number>();
    for (const { functionName, ranges } of functions) {
      const { startOffset, endOffset, count } = ranges[0]!;
      const text = source.slice(startOffset, endOffset);
      if (count === 0 || functionName === '<static_initializer>' || notOfLib.test(text)) continue;
      const name = functionName || '(anonymous)';
      counts.set(name, (counts.get(name) ?? 0) + count);
    }
    return counts;
  }

  #sourceOf(scriptId: string): string {
    let source = '';
    this.#session.post('Debugger.getScriptSource', { scriptId }, (error, { scriptSource }) => {
      if (error !== null) throw error;
      source = scriptSource;
    });
    return source;
  }
}

function fileOf(url: string): string | undefined {
  if (!url.startsWith('file:')) return undefined;
  const file = relative(root, fileURLToPath(url));
  return file.startsWith('lib/') ? file : undefined;
}
