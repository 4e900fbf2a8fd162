import type { StorkClock } from '../core/runtime/clock.js';
import type { OpenStore } from './input/connect.js';
import type { Environment } from './input/target.js';

/** What the command line runs in: a process, or a test. */
export interface Host {
  readonly env: Environment;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly clock: StorkClock;
  /** Ends the work; its reason is an `Interruption`. */
  readonly signal: AbortSignal;
  readonly openStore: OpenStore;
}

export interface Output {
  /** Characters of a line; undefined where it is no terminal. */
  readonly width: number | undefined;
  write(text: string): void;
}

/** Somebody has told the process to end. */
export class Interruption extends Error {
  constructor(
    readonly signalName: 'SIGINT' | 'SIGTERM',
    readonly exitCode: number,
  ) {
    super(`interrupted by ${signalName}`);
  }
}
