import { expect, it } from 'vitest';
import { withResolvers } from '../../../../lib/core/runtime/with-timeout.js';
import type { KafkaProducer, KafkaTransactions } from '../../../../lib/kafka/client/client.js';
import { TransactionalWriter } from '../../../../lib/kafka/dead-letters/transactional-writer.js';
import { VirtualClock } from '../../../../lib/memory/virtual-clock.js';
import { RecordingLogger } from '../../core/harness.js';

function newBench() {
  const clock = new VirtualClock();
  const abort = new AbortController();
  const producer = withResolvers<KafkaProducer>();
  const transactions = withResolvers<KafkaTransactions>();
  const writer = new TransactionalWriter({
    location: { source: 'orders', from: 'orders.dlq', group: 'g' },
    client: { openProducer: () => producer.promise, openTransactions: () => transactions.promise },
    compression: 'none',
    name: 'main',
    clock,
    logger: new RecordingLogger(),
    signal: abort.signal,
  });
  return { clock, abort, producer, transactions, writer };
}

/** A producer that counts how often it is closed. */
function opened() {
  const one = {
    closes: 0,
    send: async () => {},
    write: async () => {},
    close: async () => void one.closes++,
  };
  return one;
}

it.each(['producer', 'transactions'] as const)(
  'closes %s that open after the signal has aborted',
  async (what) => {
    const { clock, abort, writer, ...openings } = newBench();
    const working = what === 'producer' ? writer.write([]) : writer.openTransactions();
    const outcome = expect(working).rejects.toThrow('enough');
    abort.abort(new Error('enough'));
    await clock.advance(1_000);
    await outcome;
    const late = opened();
    openings[what].resolve(late);
    await writer.close();
    expect(late.closes).toBe(1);
  },
);
