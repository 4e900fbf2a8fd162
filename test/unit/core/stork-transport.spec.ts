import { describe, expect, it } from 'vitest';
import { StorkTransport } from '../../../lib/core/stork-transport.js';
import { Counters } from '../../../lib/core/runtime/reporting.js';
import type { Driver } from '../../../lib/core/port/driver.js';
import type { PublishCancellation } from '../../../lib/core/port/publish-cancellation.js';
import { resolveDeadLetter } from '../../../lib/core/dead-letter/dead-letter-options.js';
import { LogDriver } from '../../../lib/memory/log/log-driver.js';
import { MemoryBroker } from '../../../lib/memory/broker/memory-broker.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newGate, noteWhenDone, RecordingLogger, settle } from './harness.js';
import { TestHandler } from './pipeline-harness.js';

const encoding = { gate: newGate() };
const slowCodec = {
  contentType: 'text/x-slow',
  encode: async () => {
    await encoding.gate.promise;
    return Buffer.from('slow');
  },
  decode: String,
};

function newTransport(
  clock: VirtualClock,
  broker: MemoryBroker,
  change: (driver: LogDriver) => void,
): { readonly transport: StorkTransport; readonly logger: RecordingLogger } {
  const [counters, logger] = [new Counters(), new RecordingLogger()];
  const environment = { name: 'main', clock, logger, counters, shared: new Map() };
  const driver = new LogDriver(broker, { mode: 'log', topic: 'orders', groupId: 'billing' }, environment);
  change(driver);
  const transport = new StorkTransport({
    name: 'main',
    driver,
    settings: {
      concurrency: 1,
      maxWaiting: 10,
      maxBodyBytes: 1_000,
      maxPending: 1,
      publishTimeoutMs: 30_000,
      onUnhandled: undefined,
      startTimeoutMs: 60_000,
      codecs: [slowCodec],
      defaultContentType: 'application/json',
      exposeErrors: true,
    },
    clock,
    logger,
    counters,
  });
  transport.bind([new TestHandler('event', 'h', 'orders')], resolveDeadLetter());
  return { transport, logger };
}

it('a shutdown while the subscription is being opened leaves no member behind', async () => {
  const clock = new VirtualClock();
  const broker = new MemoryBroker({ clock });
  const opening = newGate();
  const { transport, logger } = newTransport(clock, broker, (driver) => {
    const subscribe = driver.subscribe.bind(driver);
    driver.subscribe = async (spec, sink) => {
      await opening.promise;
      return subscribe(spec, sink);
    };
  });
  await transport.connect();
  await transport.declare();
  const consuming = transport.consume();
  await transport.drain(10_000);
  const left = noteWhenDone(transport.leave(10_000));
  await settle();
  expect(left.done).toBe(false);
  opening.open();
  await consuming;
  await settle();
  expect(left.done).toBe(true);
  expect(broker.group('billing').members).toBe(0);
  expect(logger.lines).toEqual([]);
  await transport.close(1_000);
});

const steps = ['connect', 'declare', 'subscribe'] as const;

/** What a driver does in a step of the start that its close interrupts. */
const interruptions = {
  'never settles': () => {},
  'rejects with an error of its client': (reject: (error: Error) => void) =>
    reject(new Error('Channel ended, no reply will be forthcoming')),
};

for (const [what, interrupt] of Object.entries(interruptions)) {
  it.each(steps)(`a close rejects the start at once with CLOSED if %s ${what}`, async (step) => {
    const clock = new VirtualClock();
    const broker = new MemoryBroker({ clock });
    const begun = newGate();
    const { transport } = newTransport(clock, broker, (driver) => {
      const pending = newGate<never>();
      driver[step] = () => {
        begun.open();
        return pending.promise;
      };
      const close = driver.close.bind(driver);
      driver.close = () => {
        interrupt((error) => pending.fail(error));
        return close();
      };
    });
    const start = async (): Promise<void> => {
      await transport.connect();
      await transport.declare();
      await transport.consume();
    };
    const error = start().catch((reason: unknown) => reason);
    await begun.promise;
    await transport.close(1_000);
    expect(await error).toMatchObject({ code: 'CLOSED' });
  });
}

describe('a publish', () => {
  /** A transport whose driver keeps each message in its buffer. */
  async function newBufferingTransport() {
    const clock = new VirtualClock();
    const cancellations: PublishCancellation[] = [];
    const { transport } = newTransport(clock, new MemoryBroker({ clock }), (driver: Driver) => {
      driver.publish = (_, cancellation) => {
        cancellations.push(cancellation);
        return new Promise(() => {});
      };
    });
    return { clock, transport, cancellations };
  }

  it.each([
    [undefined, 30_000],
    [1_000, 1_000],
    [60_000, 60_000],
  ])('with timeoutMs %s ends after %i ms', async (timeoutMs, expectedMs) => {
    const { clock, transport } = await newBufferingTransport();
    const ended = transport
      .publish('a', 1, timeoutMs === undefined ? {} : { timeoutMs })
      .catch((error: unknown) => error);
    const note = noteWhenDone(ended);
    await clock.advance(expectedMs - 1);
    expect(note.done).toBe(false);
    await clock.advance(1);
    expect(note.value).toMatchObject({ code: 'CONNECTION_LOST' });
    await transport.close(0);
  });

  it('ends while it waits for the first connection, and is not sent afterwards', async () => {
    const clock = new VirtualClock();
    const broker = new MemoryBroker({ clock });
    broker.createTopic('orders', { partitions: 1 });
    const connecting = newGate();
    const { transport } = newTransport(clock, broker, (driver) => {
      const connect = driver.connect.bind(driver);
      driver.connect = () => connecting.promise.then(connect);
    });
    const controller = new AbortController();
    const ended = [
      transport.publish('a', 1, { timeoutMs: 500 }),
      transport.publish('a', 2, { signal: controller.signal }),
    ].map((each) => each.catch((error: unknown) => error));
    await clock.advance(500);
    controller.abort('enough');
    expect(await Promise.all(ended)).toMatchObject([{ code: 'CONNECTION_LOST' }, 'enough']);
    connecting.open();
    await transport.publish('a', 3, {});
    const values = broker
      .topic('orders')!
      .read(0, 0, 10)
      .map(({ value }) => String(value));
    expect(values).toEqual(['3']);
    await transport.close(0);
  });

  it('ends while its codec encodes, and is not sent afterwards', async () => {
    const { clock, transport, cancellations } = await newBufferingTransport();
    encoding.gate = newGate();
    const ended = transport
      .publish('a', 1, { timeoutMs: 500, contentType: 'text/x-slow' })
      .catch((error: unknown) => error);
    await clock.advance(500);
    expect(await ended).toMatchObject({ code: 'CONNECTION_LOST' });
    encoding.gate.open();
    await settle();
    expect(cancellations).toEqual([]);
    await transport.close(0);
  });

  it.each([0, -1, NaN, 1.5, '5'])('with timeoutMs %s is refused by name', async (timeoutMs) => {
    const { clock, transport, cancellations } = await newBufferingTransport();
    const error = await transport
      .publish('a', 1, { timeoutMs: timeoutMs as number })
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'CONFIG', problems: [{ name: 'timeoutMs' }] });
    expect([cancellations, clock.pendingTimers]).toEqual([[], 0]);
  });

  it('whose signal is aborted already does nothing', async () => {
    const { clock, transport, cancellations } = await newBufferingTransport();
    const signal = AbortSignal.abort('too late');
    await expect(transport.publish('a', 1, { signal })).rejects.toBe('too late');
    expect([cancellations, clock.pendingTimers]).toEqual([[], 0]);
  });

  it('that is pending when the transport has closed is rejected, and leaves no timer', async () => {
    const { clock, transport, cancellations } = await newBufferingTransport();
    const ended = [transport.publish('a', 1, {}), transport.publish('b', 2, {})].map((each) =>
      each.catch((error: unknown) => error),
    );
    await settle();
    cancellations[1]!.withdraw = () => false;
    await transport.close(0);
    expect(await Promise.all(ended)).toMatchObject([{ code: 'CLOSED' }, { code: 'PUBLISH_UNCONFIRMED' }]);
    await expect(transport.publish('a', 1, {})).rejects.toMatchObject({ code: 'CLOSED' });
    expect(clock.pendingTimers).toBe(0);
  });
});
