import type { TransportState } from 'nestjs-stork';
import { euros } from './goods.js';
import type { ResultLog } from './result-log.js';
import { outcomes, type Entry, type Outcome } from './outcome.js';
import type { OrderLine } from './order-file.js';
import type { Quote } from './order.dto.js';
import { fit, grouped, isTerminal, color } from './terminal.js';

const handledShown = 6;
const progressStep = isTerminal ? 10 : 250;
const barWidth = 40;

/** Why lines have this outcome. */
const explained: Readonly<Record<Exclude<Outcome, 'handled'>, string>> = {
  duplicate: 'Sent twice. The shop knew the order number and did nothing the second time.',
  malformed:
    'Bytes that are no JSON, or hostile JSON. No handler ran; the dead letter has the original bytes.',
  invalid: 'JSON that is no order. The validation pipe refused it before the handler.',
  unknown: 'Messages without a handler. Dead-lettered, not dropped.',
  failed: "The handler threw. The error's name and message travel with the message.",
};
const colours = {
  handled: 'green',
  duplicate: 'cyan',
  malformed: 'magenta',
  invalid: 'yellow',
  unknown: 'blue',
  failed: 'red',
} as const satisfies Record<Outcome, string>;
const outcomeWidth = Math.max(...outcomes.map((outcome) => outcome.length));

/** The output of the tour. */
export class Report {
  readonly #lines: readonly OrderLine[];

  constructor(lines: readonly OrderLine[]) {
    this.#lines = lines;
  }

  begin(broker: string): void {
    say();
    say(color('bold', `  A small shop, ${grouped(this.#lines.length)} messages, and what became of each`));
    say(color('dim', `  broker: ${broker}`));
  }

  /** After a restart: the outcomes of the earlier process. */
  remember(count: number): void {
    say();
    say(`  ${grouped(count)} of ${grouped(this.#lines.length)} had their outcome before.`);
  }

  published(next: string): void {
    say();
    say(`  All ${grouped(this.#lines.length)} sent, each confirmed by the broker. Next: ${next}`);
    say();
  }

  asking(): void {
    say();
    say('  Two questions first, each a request that waits for its answer.');
  }

  quote({ goods, quantity, cents }: Quote): void {
    say(`    ${color('green', 'answer')}  ${quantity} x ${goods} would be ${euros(cents)}`);
  }

  /** The error of a handler as the caller of the request receives it. */
  refusal(error: {
    readonly name: string;
    readonly remoteName: string;
    readonly code: string;
    readonly message: string;
  }): void {
    const { name, remoteName, code, message } = error;
    say(
      `    ${color('red', 'error')}   ${name} with the code ${code}: ${fit(`${remoteName}, ${message}`, 40)}`,
    );
    say();
  }

  progress(count: number): void {
    const total = this.#lines.length;
    if (count % progressStep !== 0 && count !== total) return;
    const counted = `${grouped(count).padStart(7)} of ${grouped(total)}`;
    if (!isTerminal) return say(counted);
    const done = Math.floor((count / total) * barWidth);
    const bar = color('green', '━'.repeat(done)) + color('dim', '━'.repeat(barWidth - done));
    process.stdout.write(`\r  ${bar} ${counted}${count === total ? '\n' : ''}`);
  }

  /** The first handled lines, and every line with another outcome. */
  tell(results: ResultLog): void {
    const entries = results.entries();
    const handled = entries.filter(({ outcome }) => outcome === 'handled');
    this.#chapter(
      `Most went as they should; the first ${handledShown} of ${grouped(handled.length)}.`,
      handled.slice(0, handledShown),
    );
    const again = handled.filter(({ attempt }) => attempt > 1).length;
    say();
    say(`  ${grouped(again)} orders were handled in a second or third attempt: the till had been busy.`);
    for (const outcome of outcomes) {
      if (outcome === 'handled') continue;
      const concerned = entries.filter((entry) => entry.outcome === outcome);
      this.#chapter(explained[outcome], concerned);
    }
  }

  /** @param counts counters of the shop's transport in this process */
  close(results: ResultLog, counts: TransportState['counts'], deadLettersCommand: string | undefined): void {
    const total = this.#lines.length;
    say();
    for (const outcome of outcomes) {
      say(
        `    ${color(colours[outcome], outcome.padEnd(outcomeWidth))}  ${grouped(results.count(outcome)).padStart(7)}`,
      );
    }
    say(color('bold', `    ${'total'.padEnd(outcomeWidth)}  ${grouped(total).padStart(7)}`));
    say();
    const inconsistencies = results.inconsistencies(total);
    if (inconsistencies.length > 0) return this.#reportMismatch(inconsistencies, deadLettersCommand);
    if (results.repeats > 0) {
      say(
        `  Messages that were redelivered, as they may be after a crash, and changed nothing: ${results.repeats}.`,
      );
    }
    const { received = 0, retried = 0, 'dead-lettered': deadLettered = 0 } = counts;
    say(
      `  The transport counted ${grouped(received)} received, ${grouped(retried)} retried, ${grouped(deadLettered)} dead letters.`,
    );
    say('  Each line has exactly one outcome; nothing was lost and nothing happened twice.');
    say(
      '  Next: src/orders.controller.ts receives the orders, src/dead-letters.controller.ts consumes the dead letters.',
    );
    say();
  }

  #reportMismatch(inconsistencies: readonly string[], deadLettersCommand: string | undefined): void {
    say(color('red', '  Inconsistent:'));
    for (const inconsistency of inconsistencies) say(`    ${fit(inconsistency, 4)}`);
    if (deadLettersCommand !== undefined) say(`  Remaining dead letters: ${deadLettersCommand}`);
    say();
  }

  #chapter(title: string, entries: readonly Entry[]): void {
    say();
    say(`  ${title}`);
    for (const { line, outcome, why } of entries) {
      const subject = this.#lines[line - 1]?.subject ?? '-';
      const place = `    line ${String(line).padStart(4)}  `;
      const named = outcome.padEnd(outcomeWidth);
      const order = `  ${subject.padEnd(8)}  `;
      const used = place.length + named.length + order.length;
      say(color('dim', place) + color(colours[outcome], named) + color('dim', order) + fit(why, used));
    }
  }
}

function say(line = ''): void {
  process.stdout.write(`${line}\n`);
}
