import { messageOf } from '../core/errors.js';
import type { DeadLetterBox } from '../core/dead-letters.js';
import { maskCredentials } from '../core/text.js';
import type { Host } from './host.js';
import { safeLine } from './safe-text.js';
import { readTarget, type PlaceFlags } from './target.js';

/** An open place of dead letters and where to tell of it. */
export interface Session {
  readonly box: DeadLetterBox;
  readonly host: Host;
  /** True: standard output is for programs. */
  readonly json: boolean;
}

/** Opens what the command line names, works on it and closes it, however the work ends. */
export async function withSession(
  host: Host,
  flags: PlaceFlags & { readonly json?: true },
  work: (session: Session) => Promise<void>,
): Promise<void> {
  const { env, clock, signal } = host;
  const { box, close } = await host.openBox(readTarget(flags, env), {
    clock,
    signal,
    warn: (line) => warn(host, line),
  });
  try {
    await work({ box, host, json: flags.json === true });
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
