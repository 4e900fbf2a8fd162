import { expect, it } from 'vitest';
import { StorkTransport } from '../../../lib/core/stork-transport.js';
import { Counters } from '../../../lib/core/runtime/reporting.js';
import { resolveDeadLetter } from '../../../lib/core/dead-letter/dead-letter-options.js';
import { LogDriver } from '../../../lib/memory/log/log-driver.js';
import { MemoryBroker } from '../../../lib/memory/broker/memory-broker.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newGate, noteWhenDone, RecordingLogger, settle } from './harness.js';
import { TestHandler } from './pipeline-harness.js';

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
      onUnhandled: undefined,
      startTimeoutMs: 60_000,
      codecs: [],
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
