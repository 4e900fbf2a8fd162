import type { TransportState } from 'nestjs-stork';
import { euros } from './goods.js';
import type { Ledger } from './ledger.js';
import { outcomes, type Entry, type Outcome } from './outcome.js';
import type { OrderLine } from './order-file.js';
import type { Quote } from './order.dto.js';
import { fit, grouped, isTerminal, paint } from './paint.js';

const handledShown = 6;
const progressStep = isTerminal ? 10 : 250;
const barWidth = 40;

/** What the lines of one kind have gone through. */
const explained: Readonly<Record<Exclude<Outcome, 'handled'>, string>> = {
  duplicate: 'Sent twice. The shop knew the order number and did nothing the second time.',
  malformed:
    'Bytes that are no JSON, or JSON made to do harm. No handler saw them; they are kept as they came.',
  invalid: 'JSON that is no order. The validation pipe refused it before the handler.',
  unknown: 'Messages that nobody listens to. Kept, not dropped.',
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

/** Everything that the tour prints. */
export class Story {
  readonly #lines: readonly OrderLine[];

  constructor(lines: readonly OrderLine[]) {
    this.#lines = lines;
  }

  begin(broker: string): void {
    say();
    say(paint('bold', `  A small shop, ${grouped(this.#lines.length)} messages, and what became of each`));
    say(paint('dim', `  broker: ${broker}`));
  }

  /** A shop that was killed goes on with what it had. */
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
    say(`    ${paint('green', 'answer')}  ${quantity} x ${goods} would be ${euros(cents)}`);
  }

  /** What the caller of a request sees of the error that the handler threw. */
  refusal(error: {
    readonly name: string;
    readonly remoteName: string;
    readonly code: string;
    readonly message: string;
  }): void {
    const { name, remoteName, code, message } = error;
    say(
      `    ${paint('red', 'error')}   ${name} with the code ${code}: ${fit(`${remoteName}, ${message}`, 40)}`,
    );
    say();
  }

  progress(count: number): void {
    const total = this.#lines.length;
    if (count % progressStep !== 0 && count !== total) return;
    const counted = `${grouped(count).padStart(7)} of ${grouped(total)}`;
    if (!isTerminal) return say(counted);
    const done = Math.floor((count / total) * barWidth);
    const bar = paint('green', '━'.repeat(done)) + paint('dim', '━'.repeat(barWidth - done));
    process.stdout.write(`\r  ${bar} ${counted}${count === total ? '\n' : ''}`);
  }

  /** Every line that was not plainly handled, and the first of those that were. */
  tell(ledger: Ledger): void {
    const entries = ledger.entries();
    const handled = entries.filter(({ outcome }) => outcome === 'handled');
    this.#chapter(
      `Most went as they should; the first ${handledShown} of ${grouped(handled.length)}.`,
      handled.slice(0, handledShown),
    );
    const again = handled.filter(({ attempt }) => attempt > 1).length;
    say();
    say(`  ${grouped(again)} orders were handled in a second or third run: the till had been busy.`);
    for (const outcome of outcomes) {
      if (outcome === 'handled') continue;
      const concerned = entries.filter((entry) => entry.outcome === outcome);
      this.#chapter(explained[outcome], concerned);
    }
  }

  /** @param counts the shop's transport, while this process ran */
  close(ledger: Ledger, counts: TransportState['counts'], lettersCommand: string | undefined): void {
    const total = this.#lines.length;
    say();
    for (const outcome of outcomes) {
      say(
        `    ${paint(colours[outcome], outcome.padEnd(outcomeWidth))}  ${grouped(ledger.count(outcome)).padStart(7)}`,
      );
    }
    say(paint('bold', `    ${'total'.padEnd(outcomeWidth)}  ${grouped(total).padStart(7)}`));
    say();
    const doubts = ledger.doubts(total);
    if (doubts.length > 0) return this.#admit(doubts, lettersCommand);
    if (ledger.repeats > 0) {
      say(`  Messages that came again, as they may after a crash, and changed nothing: ${ledger.repeats}.`);
    }
    const { received = 0, retried = 0, 'dead-lettered': deadLettered = 0 } = counts;
    say(
      `  The transport counted ${grouped(received)} received, ${grouped(retried)} run again, ${grouped(deadLettered)} dead letters.`,
    );
    say('  Each line has exactly one outcome; nothing was lost and nothing happened twice.');
    say(
      '  Next: src/orders.controller.ts receives the orders, src/letters.controller.ts reads what could not be handled.',
    );
    say();
  }

  #admit(doubts: readonly string[], lettersCommand: string | undefined): void {
    say(paint('red', '  This does not add up:'));
    for (const doubt of doubts) say(`    ${fit(doubt, 4)}`);
    if (lettersCommand !== undefined) say(`  Dead letters that are left: ${lettersCommand}`);
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
      say(paint('dim', place) + paint(colours[outcome], named) + paint('dim', order) + fit(why, used));
    }
  }
}

function say(line = ''): void {
  process.stdout.write(`${line}\n`);
}
