import { Command, InvalidArgumentError, Option } from 'commander';
import { createRequire } from 'node:module';
import { maxWindow } from '../core/port/dead-letter-store.js';
import { maskCredentials } from '../core/message/text.js';
import { discard, replay, type OperationFlags, type ReplayFlags } from './replay-discard-commands.js';
import { readFilter, type FilterFlags, type HeaderFlag } from './input/filter.js';
import type { Host } from './host.js';
import { list, show, stats } from './inspect-commands.js';
import { parseTime } from './input/parse-time.js';
import { withSession } from './session.js';
import type { SourceFlags } from './input/target.js';

type CommonFlags = SourceFlags & { readonly json?: true };

/**
 * The command line. Usage errors are `CommanderError`s, as are the exits after `--help` and `--version`.
 */
export function makeProgram(host: Host): Command {
  const program = new Command('nestjs-stork')
    .description('Inspects, replays and discards dead letters of RabbitMQ queues and Kafka topics.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => host.stdout.write(text),
      writeErr: (text) => host.stderr.write(text),
      outputError: (text, write) => write(maskCredentials(text)),
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
  addList(dlq, host);
  addShow(dlq, host);
  addStats(dlq, host);
  addReplay(dlq, host);
  addDiscard(dlq, host);
  return program;
}

function addList(dlq: Command, host: Host): void {
  const command = dlq.command('list').description('list dead letters, oldest first; read-only');
  addSource(command);
  addFilters(command, host);
  command
    .optionsGroup('Output:')
    .option('--max <n>', 'list at most n', positiveInteger, 100)
    .option('--json', 'print one line of JSON per dead letter')
    .addHelpText(
      'after',
      examples(
        'dlq list --queue orders --reason retries-exhausted --since 2h',
        'dlq list --topic orders --group billing --json | jq .error.message',
      ),
    )
    .action((flags: CommonFlags & FilterFlags & { readonly max: number }) => {
      const filter = readFilter(flags);
      return withSession(host, flags, (session) => list(session, filter, flags.max));
    });
}

function addShow(dlq: Command, host: Host): void {
  const command = dlq
    .command('show')
    .argument('<id>', 'id of the dead letter, as "dlq list" shows it')
    .description('show one dead letter with its headers and its body; read-only');
  addSource(command);
  command
    .optionsGroup('Output:')
    .option('--json', 'print a JSON document')
    .addHelpText('after', examples('dlq show 9f86d081884c7d65 --queue orders'))
    .action((id: string, flags: CommonFlags) => withSession(host, flags, (session) => show(session, id)));
}

function addStats(dlq: Command, host: Host): void {
  const command = dlq
    .command('stats')
    .description('count dead letters by reason, handler, pattern and error; read-only');
  addSource(command);
  addFilters(command, host);
  command
    .optionsGroup('Output:')
    .option('--json', 'print a JSON document')
    .addHelpText('after', examples('dlq stats --queue orders --since 1d'))
    .action((flags: CommonFlags & FilterFlags) => {
      const filter = readFilter(flags);
      return withSession(host, flags, (session) => stats(session, filter));
    });
}

function addReplay(dlq: Command, host: Host): void {
  const command = dlq
    .command('replay')
    .description(
      'publish dead letters to the queue, or to the one consumer group, in which they failed. Attempts are counted ' +
        'from 1 again. A dry run unless --yes; it can be interrupted at any time and run again',
    );
  addSource(command);
  addFilters(command, host);
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
      return withSession(host, flags, (session) => replay(session, filter, flags));
    });
}

function addDiscard(dlq: Command, host: Host): void {
  const command = dlq
    .command('discard')
    .description('delete dead letters permanently. A dry run unless --yes');
  addSource(command);
  addFilters(command, host);
  addOperation(command, 'discard');
  command
    .addHelpText(
      'after',
      examples(
        'dlq discard --queue orders --until 30d --yes',
        'dlq discard --queue orders --id 9f86d081884c7d65 --yes',
      ),
    )
    .action((flags: CommonFlags & FilterFlags & OperationFlags) => {
      const filter = readFilter(flags);
      return withSession(host, flags, (session) => discard(session, filter, flags));
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

function addFilters(command: Command, host: Host): void {
  const time = (text: string): Date => {
    const date = parseTime(text, host.clock.now());
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

Exit code: 0 success, also if nothing was found; 1 failure; 2 wrong usage; 130 or 143 interrupted.

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
