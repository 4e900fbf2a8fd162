import { describe, expect, it, onTestFinished } from 'vitest';
import type {
  DeadLetterOutcome,
  DeadLetterVisitor,
  StoredDeadLetter,
  DeadLetterAction,
} from '../../../lib/core/port/dead-letter-store.js';
import { replayHeaders } from '../../../lib/core/dead-letter/admin/dead-letter-operations.js';
import { eventually, Gate } from '../../contract/app.js';
import { startProxy, type TcpProxy } from '../../support/tcp-proxy.js';
import {
  bodies,
  connectDriver,
  fillDeadLetterQueue,
  list,
  never,
  openStore,
  replay,
  takeAll,
  upTo,
} from './dead-letter-queues.js';
import { startStallingProxy } from './stalling-proxy.js';
import { startRewritingProxy } from '../../support/rewriting-proxy.js';
import { crashesDuring, later, url, useRaw } from './support.js';
import { seeded } from '../../support/seeded.js';

type Decision = ReturnType<DeadLetterVisitor['decide']>;

/** Records visited dead letters and their outcomes. */
class RecordingVisitor implements DeadLetterVisitor {
  readonly seen: string[] = [];
  readonly outcomes: DeadLetterOutcome[] = [];

  constructor(readonly answer: (body: string, deadLetter: StoredDeadLetter) => Decision) {}

  decide(deadLetter: StoredDeadLetter): Decision {
    const body = String(deadLetter.message.body);
    this.seen.push(body);
    return this.answer(body, deadLetter);
  }

  settled(_: StoredDeadLetter, outcome: DeadLetterOutcome): void {
    this.outcomes.push(outcome);
  }
}

async function proxied(): Promise<{ proxy: TcpProxy; address: string }> {
  const address = new URL(url!);
  const proxy = await startProxy({ host: address.hostname, port: Number(address.port) });
  onTestFinished(() => proxy.close());
  address.port = String(proxy.port);
  return { proxy, address: address.href };
}

describe.skipIf(url === undefined)('RabbitMQ: the dead letter store during failures', () => {
  const raw = useRaw();
  const scanOptions = { window: 1, signal: never };
  /**
   * The broker requeues the unacknowledged messages of a scan when it has processed the close of its channel.
   */
  const counted = (queue: string, count: number): Promise<void> =>
    expect.poll(() => raw().count(queue)).toBe(count);

  it.each([
    { window: 1, seed: 1 },
    { window: 1, seed: 2 },
    { window: 1, seed: 3 },
    { window: 10, seed: 4 },
  ])(
    'loses nothing if the connection is cut during a replay, and duplicates at most the $window in flight',
    async ({ window, seed }) => {
      const random = seeded(seed);
      const { proxy, address } = await proxied();
      const { queue, dlq } = await fillDeadLetterQueue(raw(), 100);
      const store = await openStore({ queue, url: address });
      let cuts = 0;
      let reportedCount = 0;
      for (let left = 100; left > 0; left = await raw().count(dlq)) {
        let sinceCut = 0;
        const cutAfter = cuts < 5 ? 5 + Math.floor(random() * 20) : Infinity;
        const onProgress = (): void => {
          if (++sinceCut !== cutAfter) return;
          cuts++;
          setTimeout(() => proxy.cut(), random() * 3);
        };
        const report = await replay(store, { window, onProgress }).catch((error: unknown) => error);
        if (report instanceof Error) expect(report).toMatchObject({ code: 'CONNECTION_LOST' });
        reportedCount += sinceCut;
        // The broker requeues unacknowledged messages when it has noticed the cut.
        await eventually(
          async () => ((await raw().count(queue)) + (await raw().count(dlq)) >= 100 ? true : undefined),
          'all requeued',
        );
      }
      const back = (await takeAll(raw(), queue)).map(({ content }) => content.toString());
      expect(new Set(back)).toEqual(new Set(upTo(100)));
      expect(back.length, `${cuts} cuts`).toBeLessThanOrEqual(100 + cuts * window);
      expect(cuts).toBeGreaterThan(0);
      expect(reportedCount).toBeLessThanOrEqual(100);
    },
  );

  it('rejects if the connection is lost while browsing, and can be used again', async () => {
    const { proxy, address } = await proxied();
    const { queue } = await fillDeadLetterQueue(raw(), 450);
    const store = await openStore({ queue, url: address });
    const visitor = new RecordingVisitor((body) => {
      if (body === '150') proxy.cut();
      return 'keep';
    });
    const visit = async (): Promise<void> => {
      await expect(store.scan(visitor, scanOptions)).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
    };
    expect(await crashesDuring(visit)).toEqual([]);
    await counted(`${queue}.dlq`, 450);
    expect(bodies(await list(store))).toEqual(upTo(450));
  });

  it('stops at once when the signal aborts, and reported outcomes are settled', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 300);
    const store = await openStore({ queue });
    const abort = new AbortController();
    const visitor = new RecordingVisitor((body) => {
      if (body === '10') abort.abort(new Error('enough'));
      return 'discard';
    });
    await expect(store.scan(visitor, { window: 5, signal: abort.signal })).rejects.toThrow('enough');
    await counted(dlq, 300 - visitor.outcomes.length);
    expect(visitor.outcomes.length).toBeLessThanOrEqual(10);
    await expect(store.scan(visitor, { window: 1, signal: abort.signal })).rejects.toThrow('enough');
  });

  it('stops if a decision throws, and duplicates none of the messages in flight', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 60);
    const store = await openStore({ queue });
    const visitor = new RecordingVisitor((body) => {
      if (body === '50') throw new Error('no verdict');
      return { replay: {} };
    });
    await expect(store.scan(visitor, { window: 50, signal: never })).rejects.toThrow('no verdict');
    expect(visitor.outcomes.length).toBe(50);
    await counted(dlq, 10);
    expect(await raw().count(queue)).toBe(50);
  });

  it('stops on abort if a decision never resolves', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 3);
    const store = await openStore({ queue });
    const abort = new AbortController();
    const asked = new Gate();
    const visitor = new RecordingVisitor(() => {
      asked.open();
      return new Promise(() => {});
    });
    const scanning = store.scan(visitor, { window: 1, signal: abort.signal });
    await asked.opened;
    abort.abort(new Error('enough'));
    await expect(scanning).rejects.toThrow('enough');
    await counted(dlq, 3);
  });

  it('ends its scans when its transport is closed', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 3);
    const driver = await connectDriver({ queue });
    const store = await driver.deadLetters({});
    const asked = new Gate();
    const visitor = new RecordingVisitor(() => {
      asked.open();
      return new Promise(() => {});
    });
    const scanning = store.scan(visitor, scanOptions).catch((error: unknown) => error);
    await asked.opened;
    await driver.close(5_000);
    expect(await scanning).toMatchObject({ code: 'CLOSED' });
    await expect(driver.deadLetters({})).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(store.count()).rejects.toMatchObject({ code: 'CLOSED' });
    await counted(dlq, 3);
  });

  it('does not hang on a stalled link', async () => {
    const proxy = await startStallingProxy(url!);
    onTestFinished(() => proxy.close());
    const { queue } = await fillDeadLetterQueue(raw(), 10);
    const store = await openStore({ queue, url: proxy.url });
    const abort = new AbortController();
    const visitor = new RecordingVisitor((body) => {
      if (body === '3') proxy.stall();
      if (body === '3') setTimeout(() => abort.abort(new Error('enough')), 50);
      return 'discard';
    });
    const began = performance.now();
    await expect(store.scan(visitor, { window: 1, signal: abort.signal })).rejects.toThrow('enough');
    // Waiting for messages in flight and closing the channel take at most 10 s in total.
    expect(performance.now() - began).toBeLessThan(30_000);
  });

  it('rejects if its queue is deleted meanwhile', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 300);
    const store = await openStore({ queue });
    const visitor = new RecordingVisitor(async (body): Promise<DeadLetterAction> => {
      if (body === '5') await raw().channel.deleteQueue(dlq);
      return 'discard';
    });
    await expect(store.scan(visitor, scanOptions)).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
    await expect(store.count()).rejects.toMatchObject({ code: 'CONFIG' });
  });

  it('lets a second scan continue with messages that the first has not fetched', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 300);
    const [first, second] = [await openStore({ queue }), await openStore({ queue })];
    const [asked, goOn] = [new Gate(), new Gate()];
    const slow = new RecordingVisitor(async (): Promise<DeadLetterAction> => {
      asked.open();
      await goOn.opened;
      return 'keep';
    });
    const scanning = first.scan(slow, scanOptions);
    await asked.opened;
    expect(bodies(await list(second))).toEqual(upTo(300).slice(200));
    await second.scan(new RecordingVisitor(() => 'keep'), scanOptions);
    await counted(dlq, 100);
    goOn.open();
    await scanning;
    expect(slow.seen.length).toBe(300);
    expect(bodies(await list(first)).toSorted()).toEqual(upTo(300).toSorted());
    await counted(dlq, 300);
  });

  it('lets two callers discard concurrently, each dead letter once', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 600);
    const stores = [await openStore({ queue }), await openStore({ queue })];
    const visitors = stores.map(() => new RecordingVisitor(() => 'discard'));
    await Promise.all(stores.map((store, i) => store.scan(visitors[i]!, { window: 20, signal: never })));
    expect(visitors.flatMap(({ seen }) => seen).toSorted()).toEqual(upTo(600).toSorted());
    expect(await raw().count(dlq)).toBe(0);
  });

  it('holds no dead letter longer than half of the consumer timeout, and visits each once', async () => {
    // Two of them are identical.
    const { queue } = await fillDeadLetterQueue(raw(), 60, (n) =>
      n === 20 || n === 21 ? { messageId: 'twin', headers: { 'stork-failed-at': undefined } } : {},
    );
    const store = await openStore({ queue, consumerTimeoutMs: 2_000 });
    let returns: unknown;
    const visitor = new RecordingVisitor(async (body, { message }): Promise<DeadLetterAction> => {
      returns = message.headers['x-delivery-count'];
      await later(50);
      return Number(body) % 3 === 0 ? 'discard' : 'keep';
    });
    await store.scan(visitor, scanOptions);
    expect(visitor.seen).toEqual(upTo(60));
    // Three seconds, on channels that last one second each: the last dead letter was requeued by two of them
    // before.
    expect(returns).toBeGreaterThanOrEqual(2);
    expect(bodies(await list(store))).toEqual(upTo(60).filter((body) => Number(body) % 3 !== 0));
  });

  it('visits dead letters that arrive during a scan only in a later scan', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 5);
    const store = await openStore({ queue });
    const visitor = new RecordingVisitor((body, deadLetter) => {
      raw().channel.sendToQueue(dlq, Buffer.from(`${body} again`));
      return body === '2' ? { replay: replayHeaders(deadLetter) } : 'keep';
    });
    await store.scan(visitor, scanOptions);
    expect(visitor.seen).toEqual(upTo(5));
    expect(visitor.outcomes).toEqual(['replayed']);
    await raw().confirmed();
    expect(bodies(await list(store))).toHaveLength(9);
  });

  it('reports what to do with a dead letter that the client cannot decode', async () => {
    const { queue, dlq } = await fillDeadLetterQueue(raw(), 0);
    // A frame that no broker sends: it stands for what amqplib cannot decode even without the headers.
    const proxy = await startRewritingProxy(url!);
    onTestFinished(() => proxy.close());
    const messageId = 'M'.repeat(200);
    proxy.replace(Buffer.from(`\u00c8${messageId}`, 'latin1'), Buffer.from(`\u00ff${messageId}`, 'latin1'));
    raw().channel.publish('', dlq, Buffer.from('1'), { messageId, timestamp: 7 });
    await raw().confirmed();
    const store = await openStore({ queue, url: proxy.url });
    const browse = async (): Promise<void> => {
      await expect(list(store)).rejects.toMatchObject({
        code: 'CONNECTION_LOST',
        message: expect.stringContaining('remove it in the management UI') as string,
      });
    };
    expect(await crashesDuring(browse)).toEqual([]);
  });
});
