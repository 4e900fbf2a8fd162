import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { concat, finalize, NEVER, of } from 'rxjs';
import { expect, it } from 'vitest';
import { Consume, HandlerTimeoutError, Idempotent, Retry, type StorkContext } from 'nestjs-stork';
import { deathReason, eventually, Gate, headerText, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

const timeoutMs = 50;

/** Waits until the signal aborts. */
function untilAborted({ signal }: StorkContext): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** an attempt beyond timeoutMs → aborted, a failure like any other */
export function timeLimitContract(harness: DriverHarness): void {
  it('aborts an attempt that exceeds timeoutMs, each with its own signal, and dead-letters the message with the reason timeout', async () => {
    const signals = new Seen<AbortSignal>();
    @Controller()
    class Slow {
      @EventPattern<string>('work')
      @Consume({ timeoutMs })
      @Retry({ maxRetries: 1, delayMs: 1 })
      async work(@Ctx() context: StorkContext): Promise<void> {
        signals.add(context.signal);
        await untilAborted(context);
      }
    }
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [Slow] });
    await client.publish('work', 1);
    const [deadLetter] = await deadLetters(1);
    await settled();
    expect([deathReason(deadLetter!), headerText(deadLetter, 'stork-attempt')]).toEqual(['timeout', '2']);
    expect(headerText(deadLetter, 'stork-error-name')).toBe('HandlerTimeoutError');
    expect(headerText(deadLetter, 'stork-error-message')).toBe(
      `the handler did not end within ${timeoutMs} ms`,
    );
    expect(signals.all.length).toBe(2);
    expect(signals.all[0]).not.toBe(signals.all[1]);
    for (const { aborted, reason } of signals.all) {
      expect(aborted).toBe(true);
      expect(reason).toBeInstanceOf(HandlerTimeoutError);
    }
  });

  it('retries after a timeout; a message that then succeeds is handled', async () => {
    const attempts = new Seen<number>();
    @Controller()
    class Slow {
      @EventPattern<string>('work')
      @Consume({ timeoutMs })
      @Idempotent()
      @Retry({ maxRetries: 1, delayMs: 1 })
      async work(@Ctx() context: StorkContext): Promise<void> {
        attempts.add(context.attempt);
        if (context.attempt === 1) await untilAborted(context);
      }
    }
    const { client, service, settled, source } = await startApp(harness, { controllers: [Slow] });
    await client.publish('work', 1);
    await attempts.count(2);
    await settled();
    expect(attempts.all).toEqual([1, 2]);
    expect(service.state()['main']!.counts).toMatchObject({ handled: 1, retried: 1 });
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('never retries a timeout that failOn names', async () => {
    const attempts = new Seen<number>();
    @Controller()
    class Slow {
      @EventPattern<string>('work')
      @Consume({ timeoutMs })
      @Retry({ maxRetries: 3, delayMs: 1, failOn: [HandlerTimeoutError] })
      async work(@Ctx() context: StorkContext): Promise<void> {
        attempts.add(context.attempt);
        await untilAborted(context);
      }
    }
    const { client, deadLetters } = await startApp(harness, { controllers: [Slow] });
    await client.publish('work', 1);
    expect((await deadLetters(1)).map(deathReason)).toEqual(['timeout']);
    expect(attempts.all).toEqual([1]);
  });

  it('answers a caller with the timeout code, and ignores later results of the attempt', async () => {
    const verbs = new Seen<boolean>();
    @Controller()
    class Slow {
      @MessagePattern('late')
      @Consume({ timeoutMs })
      async late(@Ctx() context: StorkContext): Promise<number> {
        await untilAborted(context);
        verbs.add(context.ack());
        return 42;
      }
      @MessagePattern('stream')
      @Consume({ timeoutMs })
      stream(@Ctx() { signal }: StorkContext) {
        const ended = finalize<unknown>(() => verbs.add(signal.aborted));
        return concat(of(1), NEVER).pipe(ended);
      }
    }
    const { client, settled } = await startApp(harness, { controllers: [Slow] });
    const timeoutError = { code: 'HANDLER_TIMEOUT', remoteName: 'HandlerTimeoutError', retryable: true };
    await expect(client.request('late', 1)).rejects.toMatchObject(timeoutError);
    await expect(client.request('stream', 1)).rejects.toMatchObject(timeoutError);
    await settled();
    expect(await verbs.count(2)).toEqual([false, true]);
  });

  it('delays the next message of its key until the timed-out attempt has ended', async () => {
    const seen = new Seen<string>();
    const gate = new Gate();
    const aborted = new Gate();
    @Controller()
    class Slow {
      @EventPattern<string>('work')
      @Consume({ timeoutMs })
      async work(@Payload() name: string, @Ctx() context: StorkContext): Promise<void> {
        seen.add(`${name} begins`);
        if (name !== 'a1') return;
        await untilAborted(context);
        aborted.open();
        await gate.opened;
        seen.add(`${name} ends`);
      }
    }
    const { client, deadLetters, service, settled } = await startApp(harness, { controllers: [Slow] });
    const settledBut = (count: number) =>
      eventually(
        async () => (service.state()['main']!.inFlight === count ? true : undefined),
        `${count} messages in flight`,
      );
    await client.publish('work', 'a1', { key: 'a' });
    await client.publish('work', 'a2', { key: 'a' });
    await aborted.opened;
    // When a message of another key is handled, this key's next message would be too if it did not wait.
    await client.publish('work', 'b1', { key: 'b' });
    await seen.count(2);
    await settledBut(2);
    expect(seen.all).toEqual(['a1 begins', 'b1 begins']);
    gate.open();
    await deadLetters(1);
    await settled();
    expect(seen.all).toEqual(['a1 begins', 'b1 begins', 'a1 ends', 'a2 begins']);
  });

  it('passes on the results, items and verbs of a handler that ends in time', async () => {
    const first = new Seen<StorkContext>();
    @Controller()
    class Quick {
      @MessagePattern('many')
      @Consume({ timeoutMs: 60_000 })
      many() {
        return of(1, 2, 3);
      }
      @EventPattern<string>('rejects')
      @Consume({ timeoutMs: 60_000 })
      rejects(@Ctx() context: StorkContext): void {
        first.add(context);
        context.deadLetter('not now');
      }
    }
    const { client, deadLetters } = await startApp(harness, { controllers: [Quick] });
    expect(await client.request('many', 1)).toBe(3);
    await client.publish('rejects', 1, { messageId: 'm-1', key: 'k' });
    expect((await deadLetters(1)).map(deathReason)).toEqual(['rejected']);
    const [{ messageId, key, attempt, maxAttempts, pattern, firstFailedAt }] = first.all as [StorkContext];
    expect({ messageId, key, attempt, maxAttempts, pattern, firstFailedAt }).toEqual({
      messageId: 'm-1',
      key: 'k',
      attempt: 1,
      maxAttempts: 1,
      pattern: 'rejects',
      firstFailedAt: undefined,
    });
  });

  it('refuses an invalid timeout', async () => {
    @Controller()
    class Slow {
      @EventPattern<string>('work')
      @Consume({ timeoutMs: 0 })
      work(): void {}
    }
    await expect(startApp(harness, { controllers: [Slow] })).rejects.toThrow(
      '@Consume({ timeoutMs }) of Slow.work: expected an integer from 1 up, given 0',
    );
  });
}
