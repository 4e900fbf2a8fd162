import { Command, InvalidArgumentError, Option } from 'commander';
import { readFileSync } from 'node:fs';
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

/** The command line. What is wrong with it is a `CommanderError`, and so is the end of `--help` and `--version`. */
export function makeProgram(host: Host): Command {
  const program = new Command('nestjs-stork')
    .description('Looks after dead letters of RabbitMQ queues and Kafka topics.')
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
    .description('look at dead letters, send them back to what failed them, or discard them')
    .addHelpText('after', sourceHelp);
  addList(dlq, host);
  addShow(dlq, host);
  addStats(dlq, host);
  addReplay(dlq, host);
  addDiscard(dlq, host);
  return program;
}

function addList(dlq: Command, host: Host): void {
  const command = dlq.command('list').description('list letters, oldest first; changes nothing');
  addSource(command);
  addFilters(command, host);
  command
    .optionsGroup('Output:')
    .option('--max <n>', 'list so many at most', positiveInteger, 100)
    .option('--json', 'print a line of JSON for each letter')
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
    .argument('<id>', 'the letter, as "dlq list" names it')
    .description('show one letter with its headers and its body; changes nothing');
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
    .description('count letters by reason, handler, pattern and error; changes nothing');
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
      'send letters back to the queue, or to the one group, that failed them. Their attempts begin anew. ' +
        'A dry run unless --yes; it can be ended at any time and run again',
    );
  addSource(command);
  addFilters(command, host);
  addOperation(command, 'replay');
  command
    .option('--max-replays <n>', 'leave those that were replayed so often', positiveInteger, 3)
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
  const command = dlq.command('discard').description('remove letters for good. A dry run unless --yes');
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
      'amqp://… or amqps://… (else RABBITMQ_URL, which keeps the password off the screen)',
    )
    .option('--queue <name>', 'queue that the letters failed in (else QUEUE_NAME)')
    .option(
      '--delivery-limit <n>',
      'of a quorum queue that this library has not declared: deliveries after which it drops a letter (default: 20 on RabbitMQ 4, else none)',
      positiveInteger,
    )
    .optionsGroup('Kafka:')
    .option('--brokers <list>', 'host:port of some brokers, separated by commas (else KAFKA_BROKERS)')
    .option('--topic <name>', 'topic that the letters failed in')
    .option('--group <id>', 'group that failed them (else KAFKA_GROUP_ID)')
    .option('--ssl', 'connect with TLS')
    .addOption(
      new Option(
        '--sasl-mechanism <name>',
        'authenticate; the password is read from KAFKA_SASL_PASSWORD',
      ).choices(['plain', 'scram-sha-256', 'scram-sha-512']),
    )
    .option('--sasl-username <name>', 'as whom')
    .optionsGroup('Both:')
    .option(
      '--from <name>',
      'queue or topic in which they lie (else DLQ_NAME where QUEUE_NAME is the queue, else <queue>.dlq or <topic>.dlq)',
    );
}

function addFilters(command: Command, host: Host): void {
  const moment = (text: string): Date => {
    const date = parseTime(text, host.clock.now());
    if (date !== undefined) return date;
    throw new InvalidArgumentError(
      'Expected a time such as 2026-01-31T09:30 (UTC) or how long ago: 30m, 2h, 7d.',
    );
  };
  command
    .optionsGroup(
      'Which letters (all that is given must hold; what can be repeated holds where one of it does):',
    )
    .option('--id <id>', 'this one; can be repeated', oneMore)
    .option('--reason <reason>', 'failed for this reason, e.g. retries-exhausted; can be repeated', oneMore)
    .option('--handler <id>', 'failed in this handler; can be repeated', oneMore)
    .option('--pattern <pattern>', 'of this pattern; can be repeated', oneMore)
    .option(
      '--since <time>',
      'failed then or later: a time (UTC unless it says more) or how long ago, e.g. 2h',
      moment,
    )
    .option('--until <time>', 'failed before then', moment)
    .option(
      '--header <name=value>',
      'with this header; can be repeated, and then all must hold',
      oneMoreHeader,
    )
    .option('--text <text>', 'with this text in the body or the error, in whatever case');
}

function addOperation(command: Command, name: 'replay' | 'discard'): void {
  command
    .optionsGroup('How:')
    .option('--yes', `${name} them; without it is only said what would be done`)
    .option(
      '--max <n>',
      `${name} so many at most (default: all that lie there when it begins)`,
      positiveInteger,
    )
    .option('--rate <n>', 'so many a second at most (default: as fast as it goes)', positiveNumber)
    .option(
      '--window <n>',
      name === 'replay'
        ? 'so many at once: on RabbitMQ so many may be doubled if this process is killed, on Kafka they are one transaction (default: 1, on Kafka 100)'
        : 'so many at once (default: 1, on Kafka 100)',
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
Where the letters lie is said by --url and --queue, by --brokers, --topic and --group, or by the environment:
RABBITMQ_URL, QUEUE_NAME, DLQ_NAME, KAFKA_BROKERS, KAFKA_GROUP_ID, KAFKA_SASL_PASSWORD.

Exit code: 0 done, also when nothing was found; 1 failed; 2 wrong usage; 130 or 143 interrupted.

Example:
  $ npx nestjs-stork dlq stats --url amqp://localhost --queue orders`;

function examples(...lines: string[]): string {
  const title = lines.length === 1 ? 'Example' : 'Examples';
  return `\n${title}:\n${lines.map((line) => `  $ npx nestjs-stork ${line}`).join('\n')}`;
}

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string }).version;
}
