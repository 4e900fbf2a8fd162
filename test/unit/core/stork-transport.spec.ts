import { expect, it } from 'vitest';
import { StorkTransport } from '../../../lib/core/stork-transport.js';
import { Counters } from '../../../lib/core/runtime/reporting.js';
import { resolveDeadLetter } from '../../../lib/core/dead-letter/dead-letter-options.js';
import type { DeliverySink, Subscription, SubscriptionSpec } from '../../../lib/core/port/driver.js';
import { LogDriver } from '../../../lib/memory/log/log-driver.js';
import { MemoryBroker } from '../../../lib/memory/broker/memory-broker.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newGate, noteWhenDone, RecordingLogger, settle } from './harness.js';
import { TestHandler } from './pipeline-harness.js';

it('a shutdown while the subscription is being opened leaves no member behind', async () => {
  const clock = new VirtualClock();
  const broker = new MemoryBroker({ clock });
  const opening = newGate();
  class SlowDriver extends LogDriver {
    override async subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription> {
      await opening.promise;
      return super.subscribe(spec, sink);
    }
  }
  const [counters, logger] = [new Counters(), new RecordingLogger()];
  const environment = { name: 'main', clock, logger, counters, shared: new Map() };
  const transport = new StorkTransport({
    name: 'main',
    driver: new SlowDriver(broker, { mode: 'log', topic: 'orders', groupId: 'billing' }, environment),
    settings: {
      concurrency: 1,
      maxBodyBytes: 1_000,
      maxPending: 1,
      onUnhandled: undefined,
      startTimeoutMs: 1_000,
      codecs: [],
      defaultContentType: 'application/json',
    },
    clock,
    logger,
    counters,
  });
  transport.bind([new TestHandler('event', 'h', 'orders')], resolveDeadLetter());
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
