import { messageOf } from '../core/runtime/errors.js';
import type { DeadLetterStore } from '../core/port/dead-letter-store.js';
import { maskCredentials } from '../core/message/text.js';
import type { Host } from './host.js';
import { safeLine } from './views/safe-text.js';
import { readTarget, type SourceFlags } from './input/target.js';

/** An open place of dead letters and where to tell of it. */
export interface Session {
  readonly store: DeadLetterStore;
  readonly host: Host;
  /** True: standard output is for programs. */
  readonly json: boolean;
}

/** Opens what the command line names, works on it and closes it, however the work ends. */
export async function withSession(
  host: Host,
  flags: SourceFlags & { readonly json?: true },
  work: (session: Session) => Promise<void>,
): Promise<void> {
  const { env, clock, signal } = host;
  const { store, close } = await host.openStore(readTarget(flags, env), {
    clock,
    signal,
    warn: (line) => warn(host, line),
  });
  try {
    await work({ store, host, json: flags.json === true });
  } finally {
    await close();
  }
}

export function warn({ stderr }: Host, line: string): void {
  stderr.write(`warning: ${safeLine(maskCredentials(line))}\n`);
}

export function errorText(error: unknown): string {
  return maskCredentials(messageOf(error)).split('\n').map(safeLine).join('\n');
}
