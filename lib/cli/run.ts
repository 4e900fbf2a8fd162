import { CommanderError } from 'commander';
import { Interruption, type Host } from './host.js';
import { makeProgram } from './program.js';
import { errorText, type CommandResult } from './session.js';
import { UsageError } from './usage-error.js';

const exitCodes = { complete: 0, failed: 1, wrongUsage: 2, incomplete: 3 } as const;

/** Runs the command of the arguments and resolves with the exit code. Never rejects. */
export async function run(args: readonly string[], host: Host): Promise<number> {
  let result: CommandResult = 'complete';
  const program = makeProgram(host, (commandResult) => {
    result = commandResult;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError)
      return error.exitCode === 0 ? exitCodes.complete : exitCodes.wrongUsage;
    if (!host.signal.aborted) {
      host.stderr.write(`error: ${errorText(error)}\n`);
      if (!(error instanceof UsageError)) return exitCodes.failed;
      host.stderr.write('(add --help for help)\n');
      return exitCodes.wrongUsage;
    }
  }
  const reason: unknown = host.signal.reason;
  if (!(reason instanceof Interruption)) return exitCodes[result];
  host.stderr.write(`${reason.message}\n`);
  return reason.exitCode;
}
