#!/usr/bin/env node
import { systemClock } from '../core/runtime/clock.js';
import { openStore } from './input/connect.js';
import { Interruption, type Output } from './host.js';
import { run } from './run.js';

const interrupt = new AbortController();
const onSigint = (): void => end(new Interruption('SIGINT', 130));
const onSigterm = (): void => end(new Interruption('SIGTERM', 143));

/** Whoever asks twice does not want to wait: the second signal does what it does to any process. */
function end(interruption: Interruption): void {
  process.off('SIGINT', onSigint).off('SIGTERM', onSigterm);
  interrupt.abort(interruption);
}

function outputTo(stream: NodeJS.WriteStream): Output {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // The reader has seen enough, e.g. `| head`: no failure of ours, and what is being replayed is still replayed.
    if (error.code !== 'EPIPE') failure = error;
  });
  return {
    get width() {
      return stream.isTTY ? stream.columns : undefined;
    },
    write: (text) => void stream.write(text),
  };
}

/** What could not be written. */
let failure: Error | undefined;
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
// Everything is written before the process ends, and a client that is still closing does not keep it.
await Promise.all([process.stdout, process.stderr].map(flushed));
if (failure !== undefined) stderr.write(`error: ${failure.message}\n`);
process.exit(failure === undefined ? code : 1);

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}
