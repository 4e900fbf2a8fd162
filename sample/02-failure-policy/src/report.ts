import { Injectable } from '@nestjs/common';
import { DeadLetterService, StorkClient, StorkService } from 'nestjs-stork';
import { Catalogue } from './catalogue.js';
import { EventLog, type Attempt } from './event-log.js';

/** Timers and the log's clock differ by this much. */
const grainMs = 2;

/** Five chapters. Each publishes, waits for the outcome, and checks its claims. */
@Injectable()
export class Report {
  constructor(
    private readonly shop: StorkClient,
    private readonly deadLetters: DeadLetterService,
    private readonly stork: StorkService,
    private readonly catalogue: Catalogue,
    private readonly log: EventLog,
  ) {}

  async run(): Promise<void> {
    await this.#retriedInProcess();
    await this.#redelivered();
    await this.#notRetried();
    await this.#duplicates();
    await this.#replayed();
  }

  async #retriedInProcess(): Promise<void> {
    const { log } = this;
    log.begin('1. The till is busy twice: two retries in process, each after a longer wait.');
    await this.shop.publish('order.paid', { order: 'SH-1' });
    await this.#until('SH-1 is paid', 'SH-1');
    const [first, second, third] = log.attempts;
    log.claim(
      'succeeds in the third attempt, after waits of 100 and 200 ms',
      log.attempts.length === 3 && waited(first, second, 100) && waited(second, third, 200),
    );
  }

  async #redelivered(): Promise<void> {
    const { log } = this;
    log.begin('2. The carrier is out: the broker redelivers the message after two seconds.');
    const key = 'Ada';
    await Promise.all([
      this.shop.publish('order.shipped', { order: 'SH-2', isHeavy: true }, { key }),
      this.shop.publish('order.shipped', { order: 'SH-3', isHeavy: false }, { key }),
    ]);
    await this.#until('SH-2 is shipped', 'SH-2');
    const [first, , last] = log.attempts;
    log.claim(
      'the next message of the same customer does not wait for it',
      ordersOf(log.attempts) === 'SH-2 SH-3 SH-2' && waited(first, last, 2_000),
    );
  }

  async #notRetried(): Promise<void> {
    const { log } = this;
    log.begin('3. The catalogue has no globe: no retry can help.');
    await this.shop.publish('order.created', { order: 'SH-4', goods: 'globe' }, { messageId: 'message-4' });
    await log.until('SH-4 is a dead letter', () => log.deadLetters.length > 0);
    log.claim(
      'dead-lettered after one attempt, although more were allowed',
      log.attempts.length === 1 && log.deadLetters[0]?.reason === 'fatal',
    );
  }

  async #duplicates(): Promise<void> {
    const { log } = this;
    log.begin('4. An event is published twice, and the same request is sent twice.');
    const twice = { messageId: 'message-5', key: 'Ada' };
    await this.shop.publish('points.earned', { order: 'SH-5' }, twice);
    await this.shop.publish('points.earned', { order: 'SH-5' }, twice);
    // Messages of one key are handled in order: when this one is handled, the duplicate was settled.
    await this.shop.publish('points.earned', { order: 'SH-6' }, { key: 'Ada' });
    await this.#until('SH-6 has its points', 'SH-6');
    const replies = [
      await this.shop.request<string>('invoice.make', { order: 'SH-7' }),
      await this.shop.request<string>('invoice.make', { order: 'SH-7' }),
    ];
    log.note(`the two replies are "${replies.join('" and "')}"`);
    const { duplicate } = this.stork.state()['shop']!.counts;
    log.claim(
      'each is handled once, and both requests get the same reply',
      ordersOf(log.attempts) === 'SH-5 SH-6 SH-7' && duplicate === 2 && replies[0] === replies[1],
    );
  }

  async #replayed(): Promise<void> {
    const { log, deadLetters } = this;
    log.begin('5. The dead letters are listed, the catalogue is corrected, and they are replayed.');
    const listed = await deadLetters.list();
    for (const { messageId, reason, handler, error } of listed)
      log.note(`list:   ${messageId}, ${reason}, ${handler}, ${error?.name}: ${error?.message}`);
    const { total, byReason } = await deadLetters.stats();
    log.note(`stats:  ${total} in total, by reason ${JSON.stringify(byReason)}`);

    this.catalogue.add('globe');
    const wouldBe = await deadLetters.replay();
    log.note(`replay: ${wouldBe.done} would be replayed; a dry run changes nothing`);
    const replayed = await deadLetters.replay({ dryRun: false });
    log.note(`replay: ${replayed.done} replayed`);
    await this.#until('SH-4 is created', 'SH-4');
    const left = await deadLetters.stats();
    log.claim(
      'handled by its own handler, and no dead letter is left',
      listed[0]?.messageId === 'message-4' &&
        [total, wouldBe.done, replayed.done].every((count) => count === 1) &&
        ordersOf(log.attempts) === 'SH-4' &&
        left.total === 0,
    );
  }

  #until(what: string, order: string): Promise<void> {
    return this.log.until(what, () =>
      this.log.attempts.some((made) => made.order === order && made.error === undefined),
    );
  }
}

function ordersOf(attempts: readonly Attempt[]): string {
  return attempts.map(({ order }) => order).join(' ');
}

function waited(before: Attempt | undefined, after: Attempt | undefined, leastMs: number): boolean {
  return before !== undefined && after !== undefined && after.atMs - before.atMs >= leastMs - grainMs;
}
