import { Controller, HttpException } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import { firstValueFrom, from, interval, map, take, toArray } from 'rxjs';
import { expect, it } from 'vitest';
import { RemoteError, RequestTimeoutError, StorkRecordBuilder } from 'nestjs-stork';
import { deathReason, eventually, Gate, startApp, uniqueName } from '../app.js';
import type { DriverHarness } from '../harness.js';

class OutOfStockError extends Error {
  override readonly name = 'OutOfStockError';
  readonly code = 'OUT_OF_STOCK';
  readonly details = { sku: 'teapot' };
}

@Controller()
class Calculator {
  @MessagePattern('double')
  double(@Payload() n: number): number {
    return n * 2;
  }
  @MessagePattern({ cmd: 'sum' })
  sum(@Payload() numbers: number[]): number {
    return numbers.reduce((a, b) => a + b, 0);
  }
  @MessagePattern('nothing')
  nothing(): void {}
  @MessagePattern('null')
  null(): null {
    return null;
  }
  @MessagePattern('fails')
  fails(): never {
    throw new OutOfStockError('no teapot left');
  }
  @MessagePattern('rpc')
  rpc(): never {
    throw new RpcException({ code: 'TEAPOT', message: 'short and stout', details: [1] });
  }
  @MessagePattern('http')
  http(): never {
    throw new HttpException({ message: ['quantity must be positive'] }, 422);
  }
  @MessagePattern('countdown')
  countdown(@Payload() start: number) {
    return from(Array.from({ length: start }, (_, i) => start - i));
  }
  @MessagePattern('holes')
  holes() {
    return from([undefined, 1, undefined]);
  }
  @MessagePattern('slow-countdown')
  slowCountdown() {
    return interval(20).pipe(
      take(3),
      map((i) => 3 - i),
    );
  }
  @MessagePattern('breaks')
  breaks() {
    return from([1, 2]).pipe(
      map((n) => {
        if (n === 2) throw new Error('at two');
        return n;
      }),
    );
  }
  @MessagePattern('unencodable')
  unencodable() {
    return { big: 1n };
  }
  @EventPattern<string>('only.event')
  onlyEvent(): void {}
}

/** request → reply */
export function requestContract(harness: DriverHarness): void {
  const start = () => startApp(harness, { controllers: [Calculator] });

  it('answers a request with what the handler returns', async () => {
    const { client, settled } = await start();
    expect(await client.request('double', 21)).toBe(42);
    expect(await client.request({ cmd: 'sum' }, [1, 2, 3])).toBe(6);
    expect(await client.request('nothing', 0)).toBeUndefined();
    expect(await client.request('null', 0)).toBeNull();
    await settled();
  });

  it("serves Nest's send() with a value, a record and a stream", async () => {
    const { client } = await start();
    expect(await firstValueFrom(client.send<number>('double', 4))).toBe(8);
    const record = new StorkRecordBuilder(5).setTimeoutMs(30_000).build();
    expect(await firstValueFrom(client.send<number>('double', record))).toBe(10);
    expect(await firstValueFrom(client.send<number>('countdown', 4).pipe(toArray()))).toEqual([4, 3, 2, 1]);
    expect(await firstValueFrom(client.send<number>('slow-countdown', 1).pipe(toArray()))).toEqual([3, 2, 1]);
    expect(await firstValueFrom(client.send('nothing', 1).pipe(toArray()))).toEqual([]);
    expect(await firstValueFrom(client.send('holes', 1).pipe(toArray()))).toEqual([null, 1, null]);
  });

  it('answers with name and message of what a handler throws, at once, and creates no dead letter', async () => {
    const { client, source, settled } = await start();
    const failure = await client.request('fails', 1).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RemoteError);
    expect(failure).toMatchObject({
      // Its own code and fields stay in the process: only an RpcException tells them.
      code: 'HANDLER_FAILED',
      message: 'no teapot left',
      remoteName: 'OutOfStockError',
      details: undefined,
      retryable: true,
    });
    await settled();
    expect(await harness.deadLetters(source)).toEqual([]);
  });

  it('distinguishes deliberate error answers from failures', async () => {
    const { client } = await start();
    await expect(client.request('rpc', 1)).rejects.toMatchObject({
      code: 'TEAPOT',
      message: 'short and stout',
      details: { code: 'TEAPOT', message: 'short and stout', details: [1] },
      retryable: false,
    });
    await expect(client.request('http', 1)).rejects.toMatchObject({
      code: 'INVALID',
      status: 422,
      details: { message: ['quantity must be positive'] },
      retryable: false,
    });
  });

  it('answers with an error if a stream fails or a result cannot be encoded', async () => {
    const { client, settled } = await start();
    const items: unknown[] = [];
    const error = await new Promise((resolve) => {
      client.send('breaks', 1).subscribe({ next: (item) => items.push(item), error: resolve });
    });
    expect(items.length).toBeLessThanOrEqual(1);
    expect(error).toMatchObject({ message: 'at two', code: 'HANDLER_FAILED' });
    await expect(client.request('unencodable', 1)).rejects.toMatchObject({ code: 'HANDLER_FAILED' });
    await settled();
  });

  it('answers a request without a message handler, and dead-letters it', async () => {
    const { client, deadLetters } = await start();
    await expect(client.request('no.such.pattern', 1)).rejects.toMatchObject({ code: 'NO_HANDLER' });
    await expect(client.request('only.event', 1)).rejects.toMatchObject({ code: 'NO_HANDLER' });
    const kept = await deadLetters(2);
    expect(kept.map(deathReason)).toEqual(['no-handler', 'no-handler']);
  });

  it('answers an undecodable request, and dead-letters it', async () => {
    const { client, deadLetters } = await start();
    const bytes = client.request('double', Buffer.from('{"n":'), { contentType: 'application/json' });
    await expect(bytes).rejects.toMatchObject({ code: 'UNDECODABLE' });
    expect(deathReason((await deadLetters(1))[0]!)).toBe('undecodable');
  });

  it('times out when no reply arrives in time, and counts the late reply', async () => {
    const gate = new Gate();
    let attempts = 0;
    @Controller()
    class Slow {
      @MessagePattern('slow')
      async slow(): Promise<string> {
        attempts++;
        await gate.opened;
        return 'late';
      }
    }
    const { client, service } = await startApp(harness, { controllers: [Slow] });
    // The deadline counts from the call: on a slow machine it may pass before the request was sent.
    for (const timeoutMs of [300, 3_000, 20_000]) {
      const failure = await client.request('slow', 1, { timeoutMs }).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(RequestTimeoutError);
      expect(failure).toMatchObject({
        code: 'REQUEST_TIMEOUT',
        message: expect.stringContaining(`${timeoutMs} ms`) as string,
      });
      if (attempts > 0) break;
    }
    gate.open();
    await eventually(async () => service.state()['main']!.counts['late-replies'], 'the late reply');
    expect(service.state()['main']!.pendingRequests).toBe(0);
  });

  it('drops a request whose deadline passed before its handler started', async () => {
    const gate = new Gate();
    let attempts = 0;
    @Controller()
    class Slow {
      @MessagePattern('slow')
      async slow(): Promise<void> {
        attempts++;
        await gate.opened;
      }
    }
    const { client, settled, service } = await startApp(harness, {
      controllers: [Slow],
      transport: { concurrency: 1 },
    });
    const first = client.request('slow', 1, { key: 'k' });
    await eventually(async () => (attempts === 1 ? true : undefined), 'the first run');
    await expect(client.request('slow', 2, { key: 'k', timeoutMs: 50 })).rejects.toThrow(RequestTimeoutError);
    gate.open();
    await first;
    await eventually(async () => service.state()['main']!.counts.expired, 'the second to be dropped');
    await settled();
    expect(attempts).toBe(1);
    expect(service.state()['main']!.counts.expired).toBe(1);
  });

  it('answers 1 000 requests in parallel, each with its own reply', async () => {
    const { client, service } = await startApp(harness, {
      controllers: [Calculator],
      transport: { concurrency: 50 },
    });
    const replies = await Promise.all(
      Array.from({ length: 1_000 }, (_, i) => client.request<number>('double', i)),
    );
    expect(replies).toEqual(Array.from({ length: 1_000 }, (_, i) => i * 2));
    expect(service.state()['main']!.pendingRequests).toBe(0);
  });

  it('refuses a second pending request with the same id, and more than maxPending', async () => {
    const gate = new Gate();
    @Controller()
    class Slow {
      @MessagePattern('slow')
      async slow(@Payload() data: unknown): Promise<unknown> {
        await gate.opened;
        return data;
      }
    }
    const { client } = await startApp(harness, { controllers: [Slow], transport: { maxPending: 2 } });
    const first = client.request('slow', 'first', { requestId: 'same' });
    await expect(client.request('slow', 2, { requestId: 'same' })).rejects.toThrow('"same"');
    const second = client.request('slow', 'second');
    await expect(client.request('slow', 3)).rejects.toMatchObject({ code: 'TOO_MANY_PENDING' });
    gate.open();
    expect(await Promise.all([first, second])).toEqual(['first', 'second']);
  });

  it('stops waiting when the caller aborts', async () => {
    const gate = new Gate();
    @Controller()
    class Slow {
      @MessagePattern('slow')
      async slow(): Promise<void> {
        await gate.opened;
      }
    }
    const { client, service } = await startApp(harness, { controllers: [Slow] });
    const abort = new AbortController();
    const call = client.request('slow', 1, { signal: abort.signal });
    abort.abort(new Error('changed my mind'));
    await expect(call).rejects.toThrow('changed my mind');
    expect(service.state()['main']!.pendingRequests).toBe(0);
    gate.open();
  });

  it('sends no reply to a forged reply address, and dead-letters the message', async () => {
    const victim = await startApp(harness, { controllers: [] });
    const { source, deadLetters } = await start();
    const forged = harness.forgedReplyAddresses(victim.source);
    for (const replyTo of forged) {
      await harness.publishRaw(source, {
        pattern: 'double',
        body: Buffer.from('1'),
        messageId: 'm',
        replyTo,
      });
    }
    const kept = await deadLetters(forged.length);
    expect(kept.map(deathReason)).toEqual(forged.map(() => 'invalid'));
    expect(await harness.waiting(victim.source)).toBe(0);
  });

  it('handles a request whose caller is gone and counts the undeliverable reply', async () => {
    const { source, settled, service } = await start();
    const { deserted: replyTo } = harness;
    await harness.publishRaw(source, { pattern: 'double', body: Buffer.from('1'), messageId: 'm', replyTo });
    await eventually(async () => service.state()['main']!.counts['reply-undeliverable'], 'the lost reply');
    await settled();
    expect(service.state()['main']!.counts.handled).toBe(1);
  });

  it('rejects a request to a destination that does not exist at once', async () => {
    const { client } = await start();
    const nowhere = uniqueName();
    const to = harness.capabilities.destinations.has('queue') ? { queue: nowhere } : { topic: nowhere };
    await expect(client.request('double', 1, { to })).rejects.toMatchObject({ code: 'NO_ROUTE' });
  });
}
