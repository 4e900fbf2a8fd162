#!/usr/bin/env node
import { sleep, systemClock } from '../core/runtime/clock.js';
import { openStore } from './input/connect.js';
import { Interruption, type Output } from './host.js';
import { run } from './run.js';

/** How long an interrupted command waits for the reader of its output. */
const interruptedFlushMs = 1_000;
const interrupt = new AbortController();
const interrupted = new Promise<Interruption>((resolve) => {
  interrupt.signal.addEventListener('abort', () => resolve(interrupt.signal.reason as Interruption));
});
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
    flushed: () =>
      new Promise((resolve) => {
        stream.write('', () => resolve());
      }),
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
const finalCode = await Promise.race([
  Promise.all([stdout.flushed(), stderr.flushed()]).then(() => code),
  interrupted.then(async ({ exitCode }) => {
    await sleep(systemClock, interruptedFlushMs);
    return exitCode;
  }),
]);
if (writeError !== undefined) stderr.write(`error: ${writeError.message}\n`);
process.exit(writeError === undefined ? finalCode : 1);
