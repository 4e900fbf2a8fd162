import { Controller, UseGuards, UseInterceptors, ValidationPipe, type CanActivate } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import { IsPositive } from 'class-validator';
import { concat, from, of, switchMap, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import {
  DeadLetter,
  Retry,
  RetryInterceptor,
  StorkContext,
  type DeadLetterNotice,
  type RetryOptions,
} from 'nestjs-stork';
import { deathReason, Gate, headerText, Seen, startApp, type AppOptions } from '../app.js';
import type { DriverHarness } from '../harness.js';

class ShopError extends Error {}
class DeclinedError extends ShopError {}

class OrderDto {
  @IsPositive()
  quantity!: number;
}

/**
 * Delays of the redelivery tests; the harnesses of real brokers delete the retry queues and topics by
 * them.
 */
export const redeliveryDelays = [100, 200, 300, 1_500, 6_000, 60_000];

/** How late an attempt may be on a busy machine. `e2e/retry-delays.ts` measures the guaranteed bound. */
const busyMs = 20_000;

const quick: RetryOptions = { maxRetries: 2, delayMs: 1 };
interface SeenAttempt {
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly at: number;
  readonly firstFailedAt: number | undefined;
  readonly id: string | undefined;
}

function seenOf(context: StorkContext): SeenAttempt {
  const { attempt, maxAttempts, firstFailedAt, messageId } = context;
  return { attempt, maxAttempts, firstFailedAt, at: Date.now(), id: messageId };
}

/** An event handler that fails its first `failures` attempts and records each. */
function newFailing(
  options: RetryOptions,
  failures = Infinity,
  error: () => Error = () => new ShopError('no'),
) {
  const attempts = new Seen<SeenAttempt>();
  @Controller()
  class Failing {
    @EventPattern<string>('work')
    @Retry(options)
    work(@Ctx() context: StorkContext): void {
      attempts.add(seenOf(context));
      if (attempts.all.length <= failures) throw error();
    }
  }
  return { attempts, Failing };
}

/** failure → next attempt → success or dead letter */
export function retryContract(harness: DriverHarness): void {
  describe('in process', () => inProcess(harness));
  describe('requests', () => requests(harness));
  describe('verbs', () => verbs(harness));
  describe('dead letters', () => deadLetters(harness));
}

function start(
  harness: DriverHarness,
  controller: AppOptions['controllers'][number],
  more: Partial<AppOptions> = {},
) {
  return startApp(harness, { controllers: [controller], ...more });
}

function inProcess(harness: DriverHarness): void {
  it('retries a handler until it succeeds, each attempt with its number', async () => {
    const { attempts, Failing } = newFailing(quick, 2);
    const { client, settled, service, source } = await start(harness, Failing);
    await client.publish('work', 1);
    const seen = await attempts.count(3);
    await settled();
    expect(seen.map(({ attempt, maxAttempts }) => [attempt, maxAttempts])).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
    ]);
    expect(seen[0]!.firstFailedAt).toBeUndefined();
    expect(seen[2]!.firstFailedAt).toBeLessThanOrEqual(seen[2]!.at);
    expect(await harness.deadLetters(source)).toEqual([]);
    expect(service.state()['main']!.counts).toMatchObject({ received: 1, handled: 1, retried: 2 });
  });

  it('attempts a handler four times and then dead-letters the message, with nothing configured', async () => {
    const { attempts, Failing } = newFailing({});
    const { client, deadLetters, settled } = await start(harness, Failing, { module: { retry: {} } });
    await client.publish('work', 1);
    const times = (await attempts.count(4)).map(({ at }) => at);
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect([deathReason(deadLetter!), headerText(deadLetter, 'stork-attempt')]).toEqual([
      'retries-exhausted',
      '4',
    ]);
    for (const [i, longestMs] of [1_000, 2_000, 4_000].entries())
      expect(times[i + 1]! - times[i]!).toBeLessThanOrEqual(longestMs + busyMs);
  });

  it('dead-letters the message when no attempt is left, with the number of the last', async () => {
    const { attempts, Failing } = newFailing(quick);
    const { client, deadLetters, settled } = await start(harness, Failing);
    await client.publish('work', 1);
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(attempts.all.length).toBe(3);
    expect([deathReason(deadLetter!), headerText(deadLetter, 'stork-attempt')]).toEqual([
      'retries-exhausted',
      '3',
    ]);
    const [first, last] = ['stork-first-failed-at', 'stork-failed-at'].map((name) =>
      headerText(deadLetter, name)!,
    );
    expect(Date.parse(first!)).toBeLessThanOrEqual(Date.parse(last!));
  });

  it.each<[string, RetryOptions, () => Error]>([
    ['failOn', { failOn: [ShopError] }, () => new DeclinedError('no')],
    [
      'failOn, by the cause',
      { failOn: [ShopError] },
      () => new Error('no', { cause: new DeclinedError('no') }),
    ],
    ['retryOn', { retryOn: [DeclinedError] }, () => new ShopError('no')],
  ])('attempts a fatal failure once and records the reason: %s', async (_, options, error) => {
    const { attempts, Failing } = newFailing({ ...quick, ...options }, Infinity, error);
    const { client, deadLetters } = await start(harness, Failing);
    await client.publish('work', 1);
    expect((await deadLetters(1)).map(deathReason)).toEqual(['fatal']);
    expect(attempts.all.length).toBe(1);
  });

  it('never retries what validation or a guard has refused; a guard that throws is an ordinary failure', async () => {
    const asked: string[] = [];
    const guard = (name: string, answer: () => boolean): CanActivate => ({
      canActivate: () => {
        asked.push(name);
        return answer();
      },
    });
    const broken = (): boolean => {
      throw new Error('no database');
    };
    @Controller()
    @Retry(quick)
    class Guarded {
      @EventPattern<string>('valid')
      valid(@Payload() _order: OrderDto): void {}
      @EventPattern<string>('refused')
      @UseGuards(guard('refused', () => false))
      refused(): void {}
      @EventPattern<string>('broken')
      @UseGuards(guard('broken', broken))
      broken(): void {}
    }
    const { client, deadLetters } = await start(harness, Guarded, {
      pipes: [new ValidationPipe({ transform: true })],
    });
    await client.publish('valid', { quantity: -1 }, { key: 'k' });
    await client.publish('refused', 1, { key: 'k' });
    await client.publish('broken', 1, { key: 'k' });
    const notified = (await deadLetters(3)).map((deadLetter) => [
      deathReason(deadLetter),
      headerText(deadLetter, 'stork-attempt'),
    ]);
    expect(notified.toSorted()).toEqual([
      ['fatal', '1'],
      ['invalid', '1'],
      ['retries-exhausted', '3'],
    ]);
    expect(asked).toEqual(['refused', 'broken', 'broken', 'broken']);
  });

  it('keeps the order of a key during back-off, and delays no other key', async () => {
    const seen = new Seen<string>();
    const gate = new Gate();
    @Controller()
    class Ordered {
      @EventPattern<string>('work')
      @Retry({ maxRetries: 1, delayMs: 1, onRetry: () => gate.opened })
      work(@Payload() name: string, @Ctx() { attempt }: StorkContext): void {
        seen.add(name);
        if (name === 'a1' && attempt === 1) throw new Error('no');
      }
    }
    const { client, settled } = await start(harness, Ordered);
    for (const name of ['a1', 'a2', 'b1']) await client.publish('work', name, { key: name.slice(0, 1) });
    expect([...(await seen.count(2))].toSorted()).toEqual(['a1', 'b1']);
    gate.open();
    await seen.count(4);
    await settled();
    expect(seen.all.filter((name) => name !== 'b1')).toEqual(['a1', 'a1', 'a2']);
  });

  it('retries only the handler that failed, of several handlers', async () => {
    const seen = new Seen<string>();
    @Controller()
    @Retry(quick)
    class Both {
      @EventPattern<string>('work')
      fine(): void {
        seen.add('fine');
      }
      @EventPattern<string>('work')
      fails(@Ctx() { attempt }: StorkContext): void {
        seen.add(`fails ${attempt}`);
        throw new Error('no');
      }
    }
    const { client, deadLetters, settled } = await start(harness, Both);
    await client.publish('work', 1);
    expect((await deadLetters(1)).map((deadLetter) => headerText(deadLetter, 'stork-handler'))).toEqual([
      'Both.fails',
    ]);
    await settled();
    expect([...seen.all].toSorted()).toEqual(['fails 1', 'fails 2', 'fails 3', 'fine']);
  });

  it.each<[string, RetryOptions]>([
    ['in process', { maxRetries: 3, delayMs: 60_000, maxDelayMs: 60_000, jitter: 'none' }],
    ['through the broker', { maxRetries: 0, redeliverDelaysMs: [60_000] }],
  ])('starts no attempt %s later than maxElapsedMs after the first failure', async (_, retry) => {
    const attempts = new Seen<number>();
    @Controller()
    @Retry({ ...retry, maxElapsedMs: 30_000 })
    class Fails {
      @EventPattern<string>('work')
      work(@Ctx() { attempt }: StorkContext): never {
        attempts.add(attempt);
        throw new Error('no');
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [Fails] });
    await client.publish('work', 1);
    const [deadLetter] = await deadLetters(1);
    expect(deathReason(deadLetter!)).toBe('retries-exhausted');
    await settled();
    expect(attempts.all).toEqual([1]);
  });

  it('ends the back-off at shutdown; the message stays in its source, the attempt uncounted', async () => {
    const notified = new Seen<number>();
    const slow = { maxRetries: 1, delayMs: 30_000, jitter: 'none' as const };
    const { attempts, Failing } = newFailing(
      { ...slow, onRetry: (_, __, delayMs) => notified.add(delayMs) },
      1,
    );
    const first = await start(harness, Failing);
    await first.client.publish('work', 1, { messageId: 'm-1' });
    expect(await notified.count(1)).toEqual([30_000]);
    const began = Date.now();
    await first.close();
    expect(Date.now() - began).toBeLessThan(25_000);
    const second = await start(harness, Failing, { source: first.source });
    const [, again] = await attempts.count(2);
    await second.settled();
    expect(again).toMatchObject({ attempt: 1, id: 'm-1' });
    expect(await harness.deadLetters(first.source)).toEqual([]);
  });

  it('ends the back-off when the connection is lost, and the message is redelivered', async () => {
    const notified = new Seen<number>();
    const { attempts, Failing } = newFailing(
      { maxRetries: 1, delayMs: 30_000, jitter: 'none', onRetry: (n) => notified.add(n) },
      1,
    );
    const { client, settled } = await start(harness, Failing, { transport: harness.impatient });
    await client.publish('work', 1);
    await notified.count(1);
    await harness.dropConnections();
    const [, again] = await attempts.count(2);
    expect(again!.attempt).toBe(1);
    await settled();
  });

  it('passes the failed attempt, the error and the delay to onRetry; an exception there changes nothing', async () => {
    const notified = new Seen<unknown[]>();
    const onRetry = (attempt: number, error: unknown, delayMs: number): void => {
      notified.add([attempt, (error as Error).message, delayMs]);
      throw new Error('a bug');
    };
    const { attempts, Failing } = newFailing(
      { maxRetries: 2, delayMs: 2, factor: 3, jitter: 'none', onRetry },
      2,
    );
    const { client, settled } = await start(harness, Failing);
    await client.publish('work', 1);
    await attempts.count(3);
    await settled();
    expect(notified.all).toEqual([
      [1, 'no', 2],
      [2, 'no', 6],
    ]);
  });

  it('merges options field by field: module, transport, interceptor, class, method', async () => {
    const seen = new Seen<string>();
    const note = ({ pattern, maxAttempts }: StorkContext): void => seen.add(`${pattern} ${maxAttempts}`);
    @Controller()
    class Plain {
      @EventPattern<string>('transport')
      transport(@Ctx() context: StorkContext): void {
        note(context);
      }
      @EventPattern<string>('by-hand')
      @UseInterceptors(new RetryInterceptor({ maxRetries: 4 }))
      withInterceptor(@Ctx() context: StorkContext): void {
        note(context);
      }
    }
    @Controller()
    @Retry({ maxRetries: 5 })
    class Decorated {
      @EventPattern<string>('class')
      class(@Ctx() context: StorkContext): void {
        note(context);
      }
      @EventPattern<string>('method')
      @Retry({ maxRetries: 6 })
      method(@Ctx() context: StorkContext): void {
        note(context);
      }
    }
    const { client } = await startApp(harness, {
      controllers: [Plain, Decorated],
      module: { retry: { maxRetries: 1 } },
      transport: { retry: { maxRetries: 2 } },
    });
    for (const pattern of ['transport', 'by-hand', 'class', 'method']) await client.publish(pattern, 1);
    expect([...(await seen.count(4))].toSorted()).toEqual([
      'by-hand 5',
      'class 6',
      'method 7',
      'transport 3',
    ]);
  });

  it('treats a result that retryOnResult matches as a failure', async () => {
    const { attempts, Failing } = newFailing(
      { ...quick, retryOnResult: (result) => result === undefined },
      0,
    );
    const { client, deadLetters } = await start(harness, Failing);
    await client.publish('work', 1);
    const [deadLetter] = await deadLetters(1);
    expect(headerText(deadLetter, 'stork-error-name')).toBe('ResultRejectedError');
    expect(attempts.all.length).toBe(3);
  });
}

function requests(harness: DriverHarness): void {
  const newAsked = (failures: number, error: () => Error) => {
    const attempts = new Seen<number>();
    @Controller()
    @Retry({ maxRetries: 3, delayMs: 1 })
    class Asked {
      @MessagePattern('ask')
      ask(@Payload() n: number): number {
        return this.#answer(n);
      }
      @MessagePattern('ask.kept')
      @DeadLetter()
      kept(@Payload() n: number): number {
        return this.#answer(n);
      }
      #answer(n: number): number {
        attempts.add(n);
        if (attempts.all.length <= failures) throw error();
        return n * 2;
      }
    }
    return { attempts, Asked };
  };

  it('answers a request whose handler fails twice and then succeeds', async () => {
    const { attempts, Asked } = newAsked(2, () => new ShopError('no'));
    const { client, settled, source } = await start(harness, Asked);
    expect(await client.request('ask', 21)).toBe(42);
    await settled();
    expect(attempts.all.length).toBe(3);
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('answers with the error when no attempt is left, and creates no dead letter', async () => {
    const { attempts, Asked } = newAsked(Infinity, () => new ShopError('no'));
    const { client, settled, source } = await start(harness, Asked);
    await expect(client.request('ask', 1)).rejects.toMatchObject({ message: 'no', code: 'HANDLER_FAILED' });
    await settled();
    expect(attempts.all.length).toBe(4);
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('dead-letters a failed request too if @DeadLetter() or the module enables it', async () => {
    const { attempts, Asked } = newAsked(Infinity, () => new ShopError('no'));
    const one = await start(harness, Asked);
    await expect(one.client.request('ask.kept', 1)).rejects.toMatchObject({ message: 'no' });
    expect((await one.deadLetters(1)).map((deadLetter) => headerText(deadLetter, 'stork-attempt'))).toEqual([
      '4',
    ]);
    await one.settled();
    expect(attempts.all.length).toBe(4);
    const other = await start(harness, Asked, { module: { deadLetter: { requests: true } } });
    await expect(other.client.request('ask', 1)).rejects.toMatchObject({ message: 'no' });
    expect((await other.deadLetters(1)).map(deathReason)).toEqual(['retries-exhausted']);
  });

  it('sends a deliberate error answer at once and creates no dead letter, unless retryOn names it', async () => {
    const { attempts, Asked } = newAsked(Infinity, () => new RpcException('sold out'));
    const { client, settled, source } = await start(harness, Asked);
    await expect(client.request('ask.kept', 1)).rejects.toMatchObject({ message: 'sold out' });
    await settled();
    expect(attempts.all.length).toBe(1);
    expect(await harness.deadLetters(source)).toEqual([]);
    const named = new Seen<number>();
    @Controller()
    class Named {
      @MessagePattern('ask')
      @Retry({ maxRetries: 1, delayMs: 1, retryOn: [RpcException] })
      ask(): number {
        named.add(1);
        if (named.all.length === 1) throw new RpcException('not yet');
        return 1;
      }
    }
    const other = await start(harness, Named);
    expect(await other.client.request('ask', 1)).toBe(1);
  });

  it('does not retry a stream after its first items were sent', async () => {
    const attempts = new Seen<number>();
    const sent = new Gate();
    @Controller()
    class Streams {
      @MessagePattern('stream')
      @Retry(quick)
      stream() {
        attempts.add(1);
        const cut = from(sent.opened).pipe(switchMap(() => throwError(() => new ShopError('cut'))));
        return concat(of(1, 2), cut);
      }
    }
    const { client, settled } = await start(harness, Streams);
    const items: unknown[] = [];
    const failure = await new Promise<unknown>((resolve) => {
      client.send('stream', 1).subscribe({
        next: (item) => {
          items.push(item);
          if (items.length === 2) sent.open();
        },
        error: resolve,
      });
    });
    await settled();
    expect([items, attempts.all.length]).toEqual([[1, 2], 1]);
    expect(failure).toMatchObject({ message: 'cut' });
  });
}

function verbs(harness: DriverHarness): void {
  it('ctx.retry() counts as an attempt; when none is left the message becomes a dead letter', async () => {
    const attempts = new Seen<SeenAttempt>();
    @Controller()
    class Asks {
      @EventPattern<string>('work')
      @Retry(quick)
      work(@Ctx() context: StorkContext): void {
        attempts.add(seenOf(context));
        context.retry();
      }
    }
    const { client, deadLetters, settled } = await start(harness, Asks);
    await client.publish('work', 1);
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(attempts.all.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect([deathReason(deadLetter!), headerText(deadLetter, 'stork-error-name')]).toEqual([
      'retries-exhausted',
      'RetriesExhaustedError',
    ]);
  });

  it('ctx.retry({ delayMs }) retries after the delay, never early', async () => {
    const attempts = new Seen<SeenAttempt>();
    const notified = new Seen<number>();
    @Controller()
    class Asks {
      @EventPattern<string>('work')
      @Retry({ maxRetries: 1, onRetry: (_, __, delayMs) => notified.add(delayMs) })
      work(@Ctx() context: StorkContext): void {
        attempts.add(seenOf(context));
        if (context.attempt === 1) context.retry({ delayMs: 150 });
      }
    }
    const { client, settled } = await start(harness, Asks);
    await client.publish('work', 1);
    const [first, second] = await attempts.count(2);
    await settled();
    expect(second!.attempt).toBe(2);
    const [delayMs] = notified.all;
    expect(delayMs).toBeGreaterThanOrEqual(150);
    expect(second!.at - first!.at).toBeGreaterThanOrEqual(delayMs! - 1);
  });

  it('refuses an invalid delay', async () => {
    @Controller()
    class Asks {
      @EventPattern<string>('work')
      work(@Ctx() context: StorkContext): void {
        context.retry({ delayMs: -1 });
      }
    }
    const { client, deadLetters } = await start(harness, Asks);
    await client.publish('work', 1);
    expect(headerText((await deadLetters(1))[0], 'stork-error-message')).toContain(
      'an integer from 0 to 86400000, a day, given -1',
    );
  });

  it('ctx.deadLetter(reason) dead-letters the message at once, and answers a caller with the reason', async () => {
    @Controller()
    @Retry(quick)
    class Rejects {
      @EventPattern<string>('work')
      work(@Ctx() context: StorkContext): never {
        context.deadLetter('no such customer');
        throw new Error('unheard');
      }
      @MessagePattern('ask')
      ask(@Ctx() context: StorkContext): void {
        context.deadLetter('no such order');
      }
    }
    const { client, deadLetters } = await start(harness, Rejects);
    await client.publish('work', 1);
    await expect(client.request('ask', 1)).rejects.toMatchObject({ message: 'no such order' });
    const kept = (await deadLetters(2)).map((deadLetter) => [
      deathReason(deadLetter),
      headerText(deadLetter, 'stork-error-message'),
    ]);
    expect(kept.toSorted()).toEqual([
      ['rejected', 'no such customer'],
      ['rejected', 'no such order'],
    ]);
  });
}

function deadLetters(harness: DriverHarness): void {
  it('redacts, leaves out the stack, and calls onDeadLetter once the dead letter is stored', async () => {
    const notified = new Seen<DeadLetterNotice>();
    @Controller()
    class Secret {
      @EventPattern<string>('work')
      @DeadLetter({
        includeStack: false,
        redact: (text) => text.replaceAll(/\d{4}/g, '****'),
        onDeadLetter: (notice) => notified.add(notice),
      })
      work(): never {
        throw new ShopError('card 1234');
      }
    }
    const { client, deadLetters, source } = await start(harness, Secret);
    await client.publish('work', 1, { messageId: 'm-1' });
    const [notice] = await notified.count(1);
    expect(await harness.deadLetters(source)).toHaveLength(1);
    const [deadLetter] = await deadLetters(1);
    expect(headerText(deadLetter, 'stork-error-message')).toBe('card ****');
    expect(headerText(deadLetter, 'stork-error-stack')).toBeUndefined();
    expect(notice).toMatchObject({
      reason: 'retries-exhausted',
      handler: 'Secret.work',
      messageId: 'm-1',
      attempt: 1,
    });
  });

  it('drops and counts the failed messages of a handler with dead letters disabled', async () => {
    @Controller()
    class Careless {
      @EventPattern<string>('work')
      @DeadLetter({ enabled: false })
      work(): never {
        throw new ShopError('no');
      }
    }
    const { client, settled, service, source } = await start(harness, Careless);
    await client.publish('work', 1);
    await settled();
    await expect.poll(() => service.state()['main']!.counts.dropped).toBe(1);
    expect(await harness.deadLetters(source)).toEqual([]);
  });
}

/** Redelivery through the broker. */
export function redeliveryContract(harness: DriverHarness): void {
  const redelivered = (delays: readonly number[], more: RetryOptions = {}): RetryOptions => ({
    maxRetries: 0,
    redeliverDelaysMs: delays,
    ...more,
  });

  it('redelivers after each delay, never early, the same message', async () => {
    const notified = new Seen<number>();
    const { attempts, Failing } = newFailing(
      redelivered([300, 100], { onRetry: (_, __, ms) => notified.add(ms) }),
    );
    const { client, deadLetters, settled, service } = await start(harness, Failing);
    await client.publish('work', { n: 1 }, { messageId: 'm-1', key: 'k', headers: { tenant: 'blue' } });
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(attempts.all.map(({ attempt, maxAttempts, id }) => [attempt, maxAttempts, id])).toEqual([
      [1, 3, 'm-1'],
      [2, 3, 'm-1'],
      [3, 3, 'm-1'],
    ]);
    expect(notified.all).toEqual([300, 100]);
    const gaps = [1, 2].map((i) => attempts.all[i]!.at - attempts.all[i - 1]!.at);
    for (const [i, delayMs] of notified.all.entries()) {
      expect(gaps[i]).toBeGreaterThanOrEqual(delayMs - 1);
      expect(gaps[i]).toBeLessThan(delayMs + busyMs);
    }
    expect(deadLetter!.body!.toString()).toBe('{"n":1}');
    expect(headerText(deadLetter, 'tenant')).toBe('blue');
    expect([deathReason(deadLetter!), headerText(deadLetter, 'stork-attempt')]).toEqual([
      'retries-exhausted',
      '3',
    ]);
    expect(service.state()['main']!.counts).toMatchObject({ redelivered: 2, 'dead-lettered': 1 });
  });

  it('redelivers to the handler that failed, and to no other', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Several {
      @EventPattern<string>('work')
      fine(): void {
        seen.add('fine');
      }
      @EventPattern<string>('work')
      @Retry(redelivered([100]))
      one(@Ctx() { attempt }: StorkContext): void {
        seen.add(`one ${attempt}`);
        throw new Error('no');
      }
      @EventPattern<string>('work')
      @Retry(redelivered([200]))
      two(@Ctx() { attempt }: StorkContext): void {
        seen.add(`two ${attempt}`);
        if (attempt === 1) throw new Error('no');
      }
    }
    const { client, deadLetters, settled } = await start(harness, Several);
    await client.publish('work', 1);
    expect((await deadLetters(1)).map((deadLetter) => headerText(deadLetter, 'stork-handler'))).toEqual([
      'Several.one',
    ]);
    await seen.count(5);
    await settled();
    expect([...seen.all].toSorted()).toEqual(['fine', 'one 1', 'one 2', 'two 1', 'two 2']);
  });

  it('delays neither the source nor a shorter delay', async () => {
    const seen = new Seen<string>();
    @Controller()
    class Delayed {
      @EventPattern<string>('long')
      @Retry(redelivered([6_000]))
      long(@Ctx() { attempt }: StorkContext): void {
        seen.add(`long ${attempt}`);
        if (attempt === 1) throw new Error('no');
      }
      @EventPattern<string>('short')
      @Retry(redelivered([100]))
      short(@Ctx() { attempt }: StorkContext): void {
        seen.add(`short ${attempt}`);
        if (attempt === 1) throw new Error('no');
      }
      @EventPattern<string>('fine')
      fine(): void {
        seen.add('fine');
      }
    }
    const { client, settled } = await start(harness, Delayed, { transport: { concurrency: 1 } });
    for (const pattern of ['long', 'short', 'fine']) await client.publish(pattern, 1, { key: 'k' });
    const all = await seen.count(5);
    // On a slow machine the short delay may pass before the last message is sent.
    expect(all.filter((one) => one !== 'fine')).toEqual(['long 1', 'short 1', 'short 2', 'long 2']);
    expect(all.indexOf('fine')).toBeLessThan(all.indexOf('long 2'));
    await settled();
  });

  it('continues counting attempts after a restart', async () => {
    const { attempts, Failing } = newFailing(redelivered([1_500]), 1);
    const first = await start(harness, Failing);
    await first.client.publish('work', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await first.settled();
    await first.close();
    const second = await start(harness, Failing, { source: first.source });
    const [one, two] = await attempts.count(2);
    await second.settled();
    expect(two).toMatchObject({ attempt: 2, id: 'm-1' });
    expect(Math.abs(two!.firstFailedAt! - one!.at)).toBeLessThan(1_000);
  });

  it('lets the redelivered attempt answer a request', async () => {
    const attempts = new Seen<number>();
    @Controller()
    class Asked {
      @MessagePattern('ask')
      @Retry(redelivered([100]))
      ask(@Payload() n: number, @Ctx() { attempt }: StorkContext): number {
        attempts.add(attempt);
        if (attempt === 1) throw new Error('no');
        return n * 2;
      }
    }
    const { client, settled, source } = await start(harness, Asked);
    expect(await client.request('ask', 21)).toBe(42);
    await settled();
    expect(attempts.all).toEqual([1, 2]);
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it("answers at once if the caller's deadline passes before the next attempt", async () => {
    @Controller()
    class Asked {
      @MessagePattern('ask')
      @Retry(redelivered([60_000]))
      ask(): never {
        throw new Error('no');
      }
    }
    const { client } = await start(harness, Asked);
    await expect(client.request('ask', 1)).rejects.toMatchObject({ message: 'no' });
  });
}
