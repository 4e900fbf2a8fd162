import { Injectable } from '@nestjs/common';
import { DeadLetterService, StorkClient, StorkService } from 'nestjs-stork';
import { Catalogue } from './catalogue.js';
import { Diary, type Attempt } from './diary.js';

/** Timers and the diary's clock differ by that much. */
const grainMs = 2;

/** Five chapters. Each sends something, waits for what comes of it, and checks what it claims. */
@Injectable()
export class Story {
  constructor(
    private readonly shop: StorkClient,
    private readonly deadLetters: DeadLetterService,
    private readonly stork: StorkService,
    private readonly catalogue: Catalogue,
    private readonly diary: Diary,
  ) {}

  async tell(): Promise<void> {
    await this.#retriedInPlace();
    await this.#redelivered();
    await this.#beyondMending();
    await this.#sentTwice();
    await this.#replayed();
  }

  async #retriedInPlace(): Promise<void> {
    const { diary } = this;
    diary.begin('1. The till is busy twice: two more runs in place, a little later each time.');
    await this.shop.publish('order.paid', { order: 'SH-1' });
    await this.#until('SH-1 is paid', 'SH-1');
    const [first, second, third] = diary.runs;
    diary.claim(
      'done in the third run, after waits of 100 and 200 ms',
      diary.runs.length === 3 && waited(first, second, 100) && waited(second, third, 200),
    );
  }

  async #redelivered(): Promise<void> {
    const { diary } = this;
    diary.begin('2. The carrier is out: the broker brings the message again in two seconds.');
    const key = 'Ada';
    await Promise.all([
      this.shop.publish('order.shipped', { order: 'SH-2', isHeavy: true }, { key }),
      this.shop.publish('order.shipped', { order: 'SH-3', isHeavy: false }, { key }),
    ]);
    await this.#until('SH-2 is shipped', 'SH-2');
    const [first, , last] = diary.runs;
    diary.claim(
      'the next message of the same customer did not wait for it',
      ordersOf(diary.runs) === 'SH-2 SH-3 SH-2' && waited(first, last, 2_000),
    );
  }

  async #beyondMending(): Promise<void> {
    const { diary } = this;
    diary.begin('3. Nobody sells a globe: no further run can mend that.');
    await this.shop.publish('order.created', { order: 'SH-4', goods: 'globe' }, { messageId: 'message-4' });
    await diary.until('SH-4 is a dead letter', () => diary.deadLetters.length > 0);
    diary.claim(
      'a dead letter after one run, although there could have been more',
      diary.runs.length === 1 && diary.deadLetters[0]?.reason === 'fatal',
    );
  }

  async #sentTwice(): Promise<void> {
    const { diary } = this;
    diary.begin('4. An event comes twice, and the same is requested twice.');
    const twice = { messageId: 'message-5', key: 'Ada' };
    await this.shop.publish('points.earned', { order: 'SH-5' }, twice);
    await this.shop.publish('points.earned', { order: 'SH-5' }, twice);
    // Messages of one key are handled in order: when this one is done, the duplicate is over.
    await this.shop.publish('points.earned', { order: 'SH-6' }, { key: 'Ada' });
    await this.#until('SH-6 has its points', 'SH-6');
    const answers = [
      await this.shop.request<string>('invoice.make', { order: 'SH-7' }),
      await this.shop.request<string>('invoice.make', { order: 'SH-7' }),
    ];
    diary.note(`the two answers are "${answers.join('" and "')}"`);
    const { duplicate } = this.stork.state()['shop']!.counts;
    diary.claim(
      'each was handled once, and both requests have the same answer',
      ordersOf(diary.runs) === 'SH-5 SH-6 SH-7' && duplicate === 2 && answers[0] === answers[1],
    );
  }

  async #replayed(): Promise<void> {
    const { diary, deadLetters } = this;
    diary.begin('5. Somebody looks at the dead letters, mends the catalogue and sends them back.');
    const listed = await deadLetters.list();
    for (const { messageId, reason, handler, error } of listed)
      diary.note(`list:   ${messageId}, ${reason}, ${handler}, ${error?.name}: ${error?.message}`);
    const { total, byReason } = await deadLetters.stats();
    diary.note(`stats:  ${total} in all, by reason ${JSON.stringify(byReason)}`);

    this.catalogue.add('globe');
    const wouldBe = await deadLetters.replay();
    diary.note(`replay: ${wouldBe.done} would be sent back; a dry run, nothing has happened`);
    const replayed = await deadLetters.replay({ dryRun: false });
    diary.note(`replay: ${replayed.done} sent back`);
    await this.#until('SH-4 is created', 'SH-4');
    const left = await deadLetters.stats();
    diary.claim(
      'handled, by its own handler, and no dead letter is left',
      listed[0]?.messageId === 'message-4' &&
        [total, wouldBe.done, replayed.done].every((count) => count === 1) &&
        ordersOf(diary.runs) === 'SH-4' &&
        left.total === 0,
    );
  }

  #until(what: string, order: string): Promise<void> {
    return this.diary.until(what, () =>
      this.diary.runs.some((run) => run.order === order && run.error === undefined),
    );
  }
}

function ordersOf(runs: readonly Attempt[]): string {
  return runs.map(({ order }) => order).join(' ');
}

function waited(before: Attempt | undefined, after: Attempt | undefined, leastMs: number): boolean {
  return before !== undefined && after !== undefined && after.atMs - before.atMs >= leastMs - grainMs;
}
