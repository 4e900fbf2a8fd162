import { Command, InvalidArgumentError, Option } from 'commander';
import { createRequire } from 'node:module';
import { maxWindow } from '../core/port/dead-letter-store.js';
import type { StorkClock } from '../core/runtime/clock.js';
import { discard, replay, type OperationFlags, type ReplayFlags } from './replay-discard-commands.js';
import { readDiscardFilter, readFilter, type FilterFlags, type HeaderFlag } from './input/filter.js';
import type { Host } from './host.js';
import { list, show, stats } from './inspect-commands.js';
import { parseTime } from './input/parse-time.js';
import { withSession, type CommandResult, type Session } from './session.js';
import type { SourceFlags } from './input/target.js';

type CommonFlags = SourceFlags & { readonly json?: true };
type RunSession = (flags: CommonFlags, work: (session: Session) => Promise<CommandResult>) => Promise<void>;

/**
 * The command line. `onResult` is called when a command has ended without an error. Usage errors are
 * `CommanderError`s, as are the exits after `--help` and `--version`.
 */
export function makeProgram(host: Host, onResult: (result: CommandResult) => void): Command {
  const program = new Command('nestjs-stork')
    .description('Inspects, replays and discards dead letters of RabbitMQ queues and Kafka topics.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => host.stdout.write(text),
      writeErr: (text) => host.stderr.write(text),
      outputError: (text, write) => write(withoutSecrets(text)),
      getOutHelpWidth: () => host.stdout.width ?? 100,
      getErrHelpWidth: () => host.stderr.width ?? 100,
    })
    .showHelpAfterError('(add --help for help)');
  const dlq = program
    .command('dlq')
    .helpCommand(false)
    .description(
      'inspect dead letters, replay them to the queue or consumer group in which they failed, or discard them',
    )
    .addHelpText('after', sourceHelp);
  const runSession: RunSession = async (flags, work) => onResult(await withSession(host, flags, work));
  addList(dlq, host.clock, runSession);
  addShow(dlq, runSession);
  addStats(dlq, host.clock, runSession);
  addReplay(dlq, host.clock, runSession);
  addDiscard(dlq, host.clock, runSession);
  return program;
}

function addList(dlq: Command, clock: StorkClock, runSession: RunSession): void {
  const command = dlq.command('list').description('list dead letters, oldest first; read-only');
  addSource(command);
  addFilters(command, clock);
  command
    .optionsGroup('Output:')
    .option('--max <n>', 'list at most n (default: 100, with --json all)', positiveInteger)
    .option('--json', 'print one line of JSON per dead letter, as it is read')
    .addHelpText(
      'after',
      examples(
        'dlq list --queue orders --reason retries-exhausted --since 2h',
        'dlq list --topic orders --group billing --json | jq .error.message',
      ),
    )
    .action((flags: CommonFlags & FilterFlags & { readonly max?: number }) => {
      const filter = readFilter(flags);
      return runSession(flags, (session) => list(session, filter, flags.max));
    });
}

function addShow(dlq: Command, runSession: RunSession): void {
  const command = dlq
    .command('show')
    .argument('<id>', 'id of the dead letter, as "dlq list" shows it')
    .description('show one dead letter with its headers and its body; read-only');
  addSource(command);
  command
    .optionsGroup('Output:')
    .option('--json', 'print a JSON document')
    .addHelpText('after', examples('dlq show 9f86d081884c7d65 --queue orders'))
    .action((id: string, flags: CommonFlags) => runSession(flags, (session) => show(session, id)));
}

function addStats(dlq: Command, clock: StorkClock, runSession: RunSession): void {
  const command = dlq
    .command('stats')
    .description('count dead letters by reason, handler, pattern and error; read-only');
  addSource(command);
  addFilters(command, clock);
  command
    .optionsGroup('Output:')
    .option('--json', 'print a JSON document')
    .addHelpText('after', examples('dlq stats --queue orders --since 1d'))
    .action((flags: CommonFlags & FilterFlags) => {
      const filter = readFilter(flags);
      return runSession(flags, (session) => stats(session, filter));
    });
}

function addReplay(dlq: Command, clock: StorkClock, runSession: RunSession): void {
  const command = dlq
    .command('replay')
    .description(
      'publish dead letters to the queue, or to the one consumer group, in which they failed. Attempts are counted ' +
        'from 1 again. A dry run unless --yes; it can be interrupted at any time and run again',
    );
  addSource(command);
  addFilters(command, clock);
  addOperation(command, 'replay');
  command
    .option('--max-replays <n>', 'skip dead letters that were replayed n times already', positiveInteger, 3)
    .addHelpText(
      'after',
      examples(
        'dlq replay --queue orders --handler OrdersController.created',
        'dlq replay --queue orders --handler OrdersController.created --max 100 --rate 10 --yes',
        'dlq replay --topic orders --group billing --since 2026-01-31T09:30 --until 1h --yes',
      ),
    )
    .action((flags: CommonFlags & FilterFlags & ReplayFlags) => {
      const filter = readFilter(flags);
      return runSession(flags, (session) => replay(session, filter, flags));
    });
}

function addDiscard(dlq: Command, clock: StorkClock, runSession: RunSession): void {
  const command = dlq
    .command('discard')
    .description('delete dead letters permanently. A dry run unless --yes');
  addSource(command);
  addFilters(command, clock);
  addOperation(command, 'discard');
  command
    .option('--all', 'needed where no filter is given: discard all, or the oldest --max')
    .addHelpText(
      'after',
      examples(
        'dlq discard --queue orders --until 30d --yes',
        'dlq discard --queue orders --id 9f86d081884c7d65 --yes',
      ),
    )
    .action((flags: CommonFlags & FilterFlags & OperationFlags & { readonly all?: true }) => {
      const filter = readDiscardFilter(flags);
      return runSession(flags, (session) => discard(session, filter, flags));
    });
}

function addSource(command: Command): void {
  command
    .optionsGroup('RabbitMQ:')
    .option(
      '--url <url>',
      'amqp://… or amqps://… (default: RABBITMQ_URL, which keeps the password out of the command line)',
    )
    .option('--queue <name>', 'queue whose messages were dead-lettered (default: QUEUE_NAME)')
    .option(
      '--delivery-limit <n>',
      'delivery limit of a quorum queue that stork did not declare: each scan counts as a delivery (default: 20 on RabbitMQ 4, none before)',
      positiveInteger,
    )
    .optionsGroup('Kafka:')
    .option(
      '--brokers <list>',
      'host:port of bootstrap brokers, separated by commas (default: KAFKA_BROKERS)',
    )
    .option('--topic <name>', 'topic whose messages were dead-lettered')
    .option('--group <id>', 'consumer group in which they failed (default: KAFKA_GROUP_ID)')
    .option('--ssl', 'connect with TLS')
    .addOption(
      new Option(
        '--sasl-mechanism <name>',
        'SASL mechanism; the password is read from KAFKA_SASL_PASSWORD',
      ).choices(['plain', 'scram-sha-256', 'scram-sha-512']),
    )
    .option('--sasl-username <name>', 'SASL user')
    .optionsGroup('Both:')
    .option(
      '--from <name>',
      'dead letter queue or topic (default: DLQ_NAME if the queue is from QUEUE_NAME, else <queue>.dlq or <topic>.dlq)',
    );
}

function addFilters(command: Command, clock: StorkClock): void {
  const time = (text: string): Date => {
    const date = parseTime(text, clock.now());
    if (date !== undefined) return date;
    throw new InvalidArgumentError(
      'Expected a time such as 2026-01-31T09:30 (UTC) or how long ago: 30m, 2h, 7d.',
    );
  };
  command
    .optionsGroup('Filters (a dead letter must match all of them; of a repeated filter, one value):')
    .option('--id <id>', 'with this id; can be repeated', oneMore)
    .option('--reason <reason>', 'with this reason, e.g. retries-exhausted; can be repeated', oneMore)
    .option('--handler <id>', 'failed in this handler; can be repeated', oneMore)
    .option('--pattern <pattern>', 'with this pattern; can be repeated', oneMore)
    .option('--message-id <id>', 'with this message id, which log lines name; can be repeated', oneMore)
    .option('--correlation-id <id>', 'with this correlation id; can be repeated', oneMore)
    .option(
      '--since <time>',
      'failed at this time or later: a time (UTC without a zone) or how long ago, e.g. 2h',
      time,
    )
    .option('--until <time>', 'failed before this time', time)
    .option('--header <name=value>', 'with this header; can be repeated, and all must match', oneMoreHeader)
    .option('--text <text>', 'with this text in the body or the error, ignoring case');
}

function addOperation(command: Command, name: 'replay' | 'discard'): void {
  command
    .optionsGroup('Operation:')
    .option('--yes', `${name} them; without it nothing is changed (dry run)`)
    .option('--max <n>', `${name} at most n (default: all that are stored at the start)`, positiveInteger)
    .option('--rate <n>', 'at most n per second (default: no limit)', positiveNumber)
    .option(
      '--window <n>',
      name === 'replay'
        ? 'n at once: on RabbitMQ up to n are replayed twice if this process is killed, on Kafka they are one transaction (default: 1, on Kafka 100)'
        : 'n at once (default: 1, on Kafka 100)',
      windowSize,
    )
    .option('--json', 'print a JSON document');
}

/** Commander quotes arguments, e.g. a misspelt option with its value, which may be or contain a password. */
function withoutSecrets(text: string): string {
  return text.replace(/(unknown option '[^=]+=).*'/s, "$1***'").replace(/\/\/.*@/gs, '//***@');
}

function oneMore(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function oneMoreHeader(text: string, before: readonly HeaderFlag[] = []): readonly HeaderFlag[] {
  const end = text.indexOf('=');
  if (end < 1) throw new InvalidArgumentError('Expected name=value.');
  return [...before, [text.slice(0, end), text.slice(end + 1)]];
}

function positiveInteger(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError('Expected a whole number from 1.');
}

function windowSize(text: string): number {
  const size = positiveInteger(text);
  if (size <= maxWindow) return size;
  throw new InvalidArgumentError(`Expected at most ${maxWindow}.`);
}

function positiveNumber(text: string): number {
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value > 0) return value;
  throw new InvalidArgumentError('Expected a number above 0.');
}

const sourceHelp = `
Dead letters are found by --url and --queue, by --brokers, --topic and --group, or by the environment:
RABBITMQ_URL, QUEUE_NAME, DLQ_NAME, KAFKA_BROKERS, KAFKA_GROUP_ID, KAFKA_SASL_PASSWORD.

Exit code: 0 success, also if nothing was found; 1 failure; 2 wrong usage; 3 dead letters that match
were left out: skipped, or cut off a list by its --max; 130 or 143 interrupted.

Example:
  $ npx nestjs-stork dlq stats --url amqp://localhost --queue orders`;

function examples(...lines: string[]): string {
  const title = lines.length === 1 ? 'Example' : 'Examples';
  return `\n${title}:\n${lines.map((line) => `  $ npx nestjs-stork ${line}`).join('\n')}`;
}

/** `lib/cli` and `dist/esm/cli` lie at different depths below `package.json`. */
function packageVersion(): string {
  const require = createRequire(import.meta.url);
  return (require('nestjs-stork/package.json') as { readonly version: string }).version;
}
