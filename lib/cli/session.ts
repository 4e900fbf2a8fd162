import { messageOf } from '../core/runtime/errors.js';
import { withTimeout } from '../core/runtime/with-timeout.js';
import type { DeadLetterStore } from '../core/port/dead-letter-store.js';
import { maskCredentials } from '../core/message/text.js';
import type { Host } from './host.js';
import { safeLine } from './views/safe-text.js';
import { readTarget, type SourceFlags } from './input/target.js';

/** An open dead letter store and the output of the command. */
export interface Session {
  readonly store: DeadLetterStore;
  readonly host: Host;
  /** Whether standard output is JSON. */
  readonly json: boolean;
}

/** `incomplete`: dead letters that match were skipped, or cut off the output. */
export type CommandResult = 'complete' | 'incomplete';

/** Opens the store that the command line names, runs `work` and closes the store, also after an error. */
export async function withSession(
  host: Host,
  flags: SourceFlags & { readonly json?: true },
  work: (session: Session) => Promise<CommandResult>,
): Promise<CommandResult> {
  const { env, clock, signal } = host;
  const { store, close } = await host.openStore(readTarget(flags, env), {
    clock,
    signal,
    warn: (line) => warn(host, line),
  });
  try {
    return await work({ store, host, json: flags.json === true });
  } finally {
    await close();
  }
}

/** The number of stored dead letters; rejects as soon as the command is interrupted. */
export function countStored({ store, host: { signal } }: Session): Promise<number> {
  return withTimeout(store.count(), { signal });
}

export function warn({ stderr }: Host, line: string): void {
  stderr.write(`warning: ${safeLine(maskCredentials(line))}\n`);
}

export function errorText(error: unknown): string {
  return maskCredentials(messageOf(error)).split('\n').map(safeLine).join('\n');
}
