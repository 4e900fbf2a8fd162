import type { StorkClock } from '../core/runtime/clock.js';
import type { OpenStore } from './input/connect.js';
import type { Environment } from './input/target.js';

/** The environment of the command line: a process or a test. */
export interface Host {
  readonly env: Environment;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly clock: StorkClock;
  /** Stops the operation; its reason is an `Interruption`. */
  readonly signal: AbortSignal;
  readonly openStore: OpenStore;
}

export interface Output {
  /** Columns of the terminal; undefined if the output is not a terminal. */
  readonly width: number | undefined;
  write(text: string): void;
  /** Resolves when the text written before is with the reader, or the reader has gone. Never rejects. */
  flushed(): Promise<void>;
}

/** The process received SIGINT or SIGTERM. */
export class Interruption extends Error {
  constructor(
    readonly signalName: 'SIGINT' | 'SIGTERM',
    readonly exitCode: number,
  ) {
    super(`interrupted by ${signalName}`);
  }
}
