import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { describe, expect, it } from 'vitest';
import { Consume, Retry, StorkContext, type CommonTransportOptions } from 'nestjs-stork';
import { deathReason, eventually, Gate, headerText, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** when a message is settled, in each delivery mode */
export function deliveryModeContract(harness: DriverHarness): void {
  describe('at-most-once', () => atMostOnce(harness));
  describe('manual', () => manual(harness));
  describe('verbs outside manual', () => verbs(harness));
}

function atMostOnce(harness: DriverHarness): void {
  it('attempts a failing handler once and dead-letters the message', async () => {
    let attempts = 0;
    @Controller()
    class Fails {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once' })
      once(): never {
        attempts++;
        throw new Error('no');
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [Fails] });
    await client.publish('once', 1);
    expect((await deadLetters(1)).map(deathReason)).toEqual(['retries-exhausted']);
    await settled();
    expect(attempts).toBe(1);
  });

  it('retries in process, then dead-letters the message; it is never redelivered', async () => {
    const attempts = new Seen<number>();
    @Controller()
    class Fails {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once' })
      @Retry({ maxRetries: 2, delayMs: 1 })
      once(@Ctx() { attempt }: StorkContext): never {
        attempts.add(attempt);
        throw new Error('no');
      }
    }
    const { client, deadLetters, service, settled } = await startApp(harness, { controllers: [Fails] });
    await client.publish('once', 1);
    const [deadLetter] = await deadLetters(1);
    expect([deathReason(deadLetter!), headerText(deadLetter, 'stork-attempt')]).toEqual([
      'retries-exhausted',
      '3',
    ]);
    await settled();
    expect(attempts.all).toEqual([1, 2, 3]);
    const { received, redelivered } = service.state()['main']!.counts;
    expect([received, redelivered]).toEqual([1, undefined]);
  });

  it('settles the message before its handler starts', async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    @Controller()
    class Slow {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once' })
      async once(): Promise<void> {
        started.add(1);
        await gate.opened;
      }
    }
    const { client, left, service } = await startApp(harness, { controllers: [Slow] });
    await client.publish('once', 1);
    await started.count(1);
    await left(0);
    expect(service.state()['main']!.inFlight).toBe(1);
    gate.open();
  });

  it('neither repeats nor aborts a handler when the connection is lost, and dead-letters the message if it fails', async () => {
    const gate = new Gate();
    const attempts = new Seen<StorkContext>();
    const again = new Seen<number>();
    @Controller()
    class Slow {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once' })
      async once(@Ctx() context: StorkContext): Promise<void> {
        attempts.add(context);
        await gate.opened;
        throw new Error('no');
      }
      @EventPattern<string>('after')
      @Consume({ delivery: 'at-most-once' })
      after(@Payload() n: number): void {
        again.add(n);
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, {
      controllers: [Slow],
      transport: harness.impatient,
    });
    for (const key of ['a', 'b', 'c']) await client.publish('once', 1, { key });
    await attempts.count(3);
    await harness.dropConnections();
    await publishAfterCut(client.publish.bind(client), 'after', again);
    expect(attempts.all.map(({ signal }) => signal.aborted)).toEqual([false, false, false]);
    gate.open();
    expect((await deadLetters(3)).map(deathReason)).toEqual(
      Array.from({ length: 3 }, () => 'retries-exhausted'),
    );
    await settled();
    expect(attempts.all.length).toBe(3);
  });

  it('does not repeat a handler that had just started when the connection was lost', async () => {
    const attempts = new Seen<string | undefined>();
    const after = new Seen<number>();
    @Controller()
    class Cuts {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once' })
      async once(@Ctx() context: StorkContext): Promise<void> {
        await harness.dropConnections();
        attempts.add(context.messageId);
      }
      @EventPattern<string>('after')
      @Consume({ delivery: 'at-most-once' })
      after(@Payload() n: number): void {
        after.add(n);
      }
    }
    const { client, settled } = await startApp(harness, {
      controllers: [Cuts],
      transport: harness.impatient,
    });
    await client.publish('once', 1, { messageId: 'm-1' });
    await attempts.count(1);
    await publishAfterCut(client.publish.bind(client), 'after', after);
    await settled();
    expect(attempts.all).toEqual(['m-1']);
  });

  it('does not repeat what a closed application had started, in any order; messages not yet started are redelivered', async () => {
    const gate = new Gate();
    const started = new Seen<number>();
    const later = new Seen<number>();
    @Controller()
    class Hangs {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once', order: 'none' })
      async once(@Payload() n: number): Promise<void> {
        started.add(n);
        await gate.opened;
      }
    }
    @Controller()
    class Works {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once', order: 'none' })
      once(@Payload() n: number): void {
        later.add(n);
      }
    }
    const first = await startApp(harness, {
      controllers: [Hangs],
      module: { drainTimeoutMs: 1_000 },
      transport: { concurrency: 3 },
    });
    for (let n = 0; n < 6; n++) await first.client.publish('once', n, { key: `k${n}` });
    await started.count(3);
    await first.close();
    const second = await startApp(harness, { controllers: [Works], source: first.source });
    await second.client.publish('once', 6, { key: 'k' });
    await eventually(
      async () => (later.all.includes(6) && started.all.length + later.all.length >= 7 ? true : undefined),
      'all messages',
    );
    await second.settled();
    expect([...started.all, ...later.all].toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    gate.open();
  });

  it('answers a request after one attempt', async () => {
    let attempts = 0;
    @Controller()
    class Quotes {
      @MessagePattern('quote')
      @Consume({ delivery: 'at-most-once' })
      quote(@Payload() n: number): number {
        attempts++;
        if (n < 0) throw new Error('no quote');
        return n * 2;
      }
    }
    const { client, settled, source } = await startApp(harness, { controllers: [Quotes] });
    expect(await client.request('quote', 2)).toBe(4);
    await expect(client.request('quote', -1)).rejects.toMatchObject({ message: 'no quote' });
    await settled();
    expect([attempts, await harness.deadLetters(source)]).toEqual([2, []]);
  });

  it('dead-letters what its handler nacks: an acknowledged message cannot be requeued', async () => {
    let attempts = 0;
    @Controller()
    class GivesBack {
      @EventPattern<string>('once')
      @Consume({ delivery: 'at-most-once' })
      once(@Ctx() context: StorkContext): void {
        attempts++;
        context.nack();
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [GivesBack] });
    await client.publish('once', 1);
    expect((await deadLetters(1)).map(deathReason)).toEqual(['rejected']);
    await settled();
    expect(attempts).toBe(1);
  });
}

/** A handler with `delivery: 'manual'` that passes its contexts to the test and returns. */
function newKeeper() {
  const kept = new Seen<StorkContext>();
  @Controller()
  class Keeper {
    @EventPattern<string>('work')
    @Consume({ delivery: 'manual' })
    work(@Ctx() context: StorkContext): void {
      kept.add(context);
    }
    @EventPattern<string>('fails')
    @Consume({ delivery: 'manual' })
    fails(): never {
      throw new Error('no');
    }
    @MessagePattern('ask')
    @Consume({ delivery: 'manual' })
    ask(@Payload() n: number, @Ctx() context: StorkContext): number {
      kept.add(context);
      return n + 1;
    }
  }
  return { kept, Keeper };
}

function manual(harness: DriverHarness): void {
  const start = async (drainTimeoutMs = 30_000, transport: CommonTransportOptions = {}) => {
    const { kept, Keeper } = newKeeper();
    const options = { controllers: [Keeper], module: { drainTimeoutMs }, transport };
    return { kept, ...(await startApp(harness, options)) };
  };

  it('settles on ack() after the handler has returned; its key and its concurrency slot are free', async () => {
    const { client, kept, service, settled, source } = await start(30_000, { concurrency: 1 });
    for (let n = 0; n < 2; n++) await client.publish('work', n, { key: 'k' });
    const [first, second] = await kept.count(2);
    expect(service.state()['main']!.inFlight).toBe(2);
    expect([second!.ack(), first!.ack(), first!.ack(), first!.nack()]).toEqual([true, true, false, false]);
    await settled();
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('redelivers a message nacked after the handler has returned', async () => {
    const { client, kept, settled } = await start();
    await client.publish('work', 1, { messageId: 'm-1' });
    const [first] = await kept.count(1);
    expect(first!.nack()).toBe(true);
    const [, second] = await kept.count(2);
    expect(second!.messageId).toBe('m-1');
    second!.ack();
    await settled();
    expect(kept.all.length).toBe(2);
  });

  it('dead-letters a message rejected after the handler has returned', async () => {
    const { client, kept, deadLetters, settled } = await start();
    await client.publish('work', 1);
    const [context] = await kept.count(1);
    expect(context!.nack({ requeue: false })).toBe(true);
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect(deathReason(deadLetter!)).toBe('rejected');
    expect(headerText(deadLetter, 'stork-handler')).toBe('Keeper.work');
  });

  it('dead-letters the message of a handler that fails without ack or nack', async () => {
    const { client, deadLetters, settled } = await start();
    await client.publish('fails', 1);
    expect((await deadLetters(1)).map(deathReason)).toEqual(['retries-exhausted']);
    await settled();
  });

  it('requeues unsettled messages at shutdown; a later ack or nack has no effect', async () => {
    const first = await start(50);
    await first.client.publish('work', 1, { messageId: 'm-1' });
    const [stale] = await first.kept.count(1);
    await first.close();
    expect([stale!.signal.aborted, stale!.ack()]).toEqual([true, false]);
    const { kept, Keeper } = newKeeper();
    const second = await startApp(harness, { controllers: [Keeper], source: first.source });
    const [context] = await kept.count(1);
    expect(context!.messageId).toBe('m-1');
    context!.ack();
    await second.settled();
  });

  it('waits at shutdown for unsettled messages', async () => {
    const { client, kept, close, left } = await start();
    await client.publish('work', 1);
    const [context] = await kept.count(1);
    const closed = close();
    await new Promise(setImmediate);
    expect(context!.ack()).toBe(true);
    await closed;
    await left(0);
  });

  it('redelivers what was unsettled when the connection was lost', async () => {
    const { client, kept, settled } = await start(30_000, harness.impatient);
    await client.publish('work', 1, { messageId: 'm-1' });
    const [first] = await kept.count(1);
    await harness.dropConnections();
    const [, second] = await kept.count(2);
    expect([first!.ack(), first!.signal.aborted]).toEqual([false, true]);
    second!.ack();
    await settled();
  });

  it('replies when the handler has returned, whenever the request is settled', async () => {
    const { client, kept, service, settled } = await start();
    expect(await client.request('ask', 1)).toBe(2);
    const [context] = await kept.count(1);
    expect(service.state()['main']!.inFlight).toBe(1);
    context!.ack();
    await settled();
  });
}

function verbs(harness: DriverHarness): void {
  it('ack: the message counts as handled, whatever happens afterwards', async () => {
    const results: boolean[] = [];
    const done = new Seen<number>();
    @Controller()
    class Handled {
      @EventPattern<string>('work')
      work(@Ctx() context: StorkContext): never {
        results.push(context.ack(), context.nack());
        done.add(1);
        throw new Error('too late');
      }
    }
    const { client, settled, source, service } = await startApp(harness, { controllers: [Handled] });
    await client.publish('work', 1);
    await done.count(1);
    await settled();
    expect([results, done.all.length, await harness.deadLetters(source)]).toEqual([[true, false], 1, []]);
    expect(service.state()['main']!.counts).toMatchObject({ handled: 1 });
  });

  it('nack: the message is redelivered when the handler has ended, whatever its result', async () => {
    const attempts = new Seen<StorkContext>();
    @Controller()
    class Hesitates {
      @EventPattern<string>('work')
      work(@Ctx() context: StorkContext): void {
        attempts.add(context);
        if (attempts.all.length < 3) context.nack();
        if (attempts.all.length === 2) throw new Error('and it failed');
      }
    }
    const { client, settled, source } = await startApp(harness, { controllers: [Hesitates] });
    await client.publish('work', 1, { messageId: 'm-1' });
    expect((await attempts.count(3)).map(({ messageId }) => messageId)).toEqual(['m-1', 'm-1', 'm-1']);
    await settled();
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('nack without requeue: a dead letter, with the error if the handler throws one', async () => {
    @Controller()
    class Rejects {
      @EventPattern<string>('work')
      work(@Payload() n: number, @Ctx() context: StorkContext): void {
        context.nack({ requeue: false });
        if (n === 2) throw new Error('because');
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [Rejects] });
    await client.publish('work', 1);
    await client.publish('work', 2);
    const kept = await deadLetters(2);
    await settled();
    expect(kept.map(deathReason)).toEqual(['rejected', 'rejected']);
    expect(kept.map((deadLetter) => headerText(deadLetter, 'stork-error-message')).toSorted()).toEqual([
      'because',
      'the handler rejected the message',
    ]);
  });

  it('on a request: ack replies, nack replies on the next attempt, nack without requeue replies with an error and dead-letters it', async () => {
    let attempts = 0;
    @Controller()
    class Answers {
      @MessagePattern('ask')
      ask(@Payload() verb: string, @Ctx() context: StorkContext): number {
        attempts++;
        if (verb === 'ack') context.ack();
        if (verb === 'nack' && attempts === 2) context.nack();
        if (verb === 'reject') context.nack({ requeue: false });
        return attempts;
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [Answers] });
    expect(await client.request('ask', 'ack')).toBe(1);
    expect(await client.request('ask', 'nack')).toBe(3);
    await expect(client.request('ask', 'reject')).rejects.toMatchObject({
      code: 'HANDLER_FAILED',
      remoteName: 'RejectedError',
      retryable: false,
    });
    expect((await deadLetters(1)).map(deathReason)).toEqual(['rejected']);
    await settled();
  });

  it('requeues the message for all handlers of an event if one of them nacks', async () => {
    const seen = new Seen<string>();
    let asked = 0;
    @Controller()
    class Both {
      @EventPattern<string>('work')
      hesitates(@Ctx() context: StorkContext): void {
        if (++asked === 1) context.nack();
      }
      @EventPattern<string>('work')
      fails(): never {
        seen.add('failed');
        throw new Error('no');
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [Both] });
    await client.publish('work', 1);
    await seen.count(2);
    expect((await deadLetters(1)).map((deadLetter) => headerText(deadLetter, 'stork-handler'))).toEqual([
      'Both.fails',
    ]);
    await settled();
    expect([asked, (await deadLetters(1)).length]).toEqual([2, 1]);
  });
}

/** A publish during the connection loss may fail, so it is repeated until one succeeds. */
async function publishAfterCut(
  publish: (pattern: string, data: unknown) => Promise<void>,
  pattern: string,
  seen: Seen<number>,
): Promise<void> {
  await eventually(
    async () =>
      publish(pattern, 1).then(
        () => true,
        () => undefined,
      ),
    'a publish',
  );
  await seen.count(1);
}
