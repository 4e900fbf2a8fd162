#!/usr/bin/env node
import { systemClock } from '../core/runtime/clock.js';
import { openStore } from './input/connect.js';
import { Interruption, type Output } from './host.js';
import { run } from './run.js';

const interrupt = new AbortController();
const onSigint = (): void => end(new Interruption('SIGINT', 130));
const onSigterm = (): void => end(new Interruption('SIGTERM', 143));

/**
 * The first signal ends the operation cleanly; the second one has its default action and kills the
 * process.
 */
function end(interruption: Interruption): void {
  process.off('SIGINT', onSigint).off('SIGTERM', onSigterm);
  interrupt.abort(interruption);
}

function outputTo(stream: NodeJS.WriteStream): Output {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // EPIPE: the reader of a pipe has ended, e.g. `| head`. That is no error, and a replay still completes.
    if (error.code !== 'EPIPE') writeError = error;
  });
  return {
    get width() {
      return stream.isTTY ? stream.columns : undefined;
    },
    write: (text) => void stream.write(text),
  };
}

/** The last error of standard output or standard error. */
let writeError: Error | undefined;
const [stdout, stderr] = [outputTo(process.stdout), outputTo(process.stderr)];
process.on('SIGINT', onSigint).on('SIGTERM', onSigterm);
const code = await run(process.argv.slice(2), {
  env: process.env,
  stdout,
  stderr,
  clock: systemClock,
  signal: interrupt.signal,
  openStore,
});
// Output is flushed before the exit; a client that is still closing does not delay it.
await Promise.all([process.stdout, process.stderr].map(flushed));
if (writeError !== undefined) stderr.write(`error: ${writeError.message}\n`);
process.exit(writeError === undefined ? code : 1);

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}
