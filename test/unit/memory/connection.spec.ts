import { describe, expect, it } from 'vitest';
import type { ConnectionState } from '../../../lib/core/port/connection-state.js';
import { ClientClosedError, ConnectionLostError } from '../../../lib/core/runtime/errors.js';
import { MemoryBroker } from '../../../lib/memory/broker/memory-broker.js';
import { MemoryConnection } from '../../../lib/memory/connection.js';
import { LogDriver } from '../../../lib/memory/log/log-driver.js';
import { QueueDriver } from '../../../lib/memory/queue/queue-driver.js';
import { environment, specOf, subscribed } from './driver-environment.js';

function newConnection(onLost: (error: ConnectionLostError) => void = () => {}, broker = new MemoryBroker()) {
  const connection = new MemoryConnection(broker, 'main', onLost);
  const states: ConnectionState['value'][] = [];
  connection.state.changes.subscribe(({ value }) => states.push(value));
  connection.open();
  return { broker, connection, states };
}

describe('MemoryConnection', () => {
  it('tells of its loss, and reconnects at once', () => {
    const errors: unknown[] = [];
    const { broker, connection, states } = newConnection((error) => errors.push(error));
    broker.dropConnections();
    expect(states).toEqual(['idle', 'connecting', 'ready', 'backoff', 'connecting', 'ready']);
    expect(errors).toEqual([expect.any(ConnectionLostError)]);
    broker.dropConnections();
    expect(errors).toHaveLength(2);
    connection.close();
  });

  it('does not reconnect if it is closed because of the loss', () => {
    let losses = 0;
    const { broker, connection, states } = newConnection(() => {
      losses++;
      connection.close();
    });
    broker.dropConnections();
    broker.dropConnections();
    expect([states.at(-1), losses]).toEqual(['closed', 1]);
    expect(() => connection.open()).toThrow(ClientClosedError);
  });

  it('waits in vain for a broker that is closed meanwhile, and keeps no other connection from knowing', () => {
    const { broker, connection, states } = newConnection(() => broker.close());
    let wasTold = false;
    const other = newConnection(() => (wasTold = true), broker);
    broker.dropConnections();
    expect([states.at(-1), wasTold]).toEqual(['backoff', true]);
    for (const each of [connection, other.connection]) each.close();
  });

  it.each([
    ['queue', (broker: MemoryBroker) => new QueueDriver(broker, { queue: 'orders' }, environment)],
    ['log', (broker: MemoryBroker) => new LogDriver(broker, { mode: 'log', topic: 'orders' }, environment)],
  ] as const)('is what a driver reports: %s', async (_, newDriver) => {
    const broker = new MemoryBroker();
    const driver = newDriver(broker);
    const states: ConnectionState['value'][] = [];
    driver.state.changes.subscribe(({ value }) => states.push(value));
    await driver.connect();
    broker.dropConnections();
    await driver.close();
    expect(states).toEqual(['idle', 'connecting', 'ready', 'backoff', 'connecting', 'ready', 'closed']);
    await expect(driver.connect()).rejects.toThrow(ClientClosedError);
  });

  it.each(['drop', 'close'] as const)('of a consumer survives a broker that is closed: %s', async (how) => {
    const broker = new MemoryBroker();
    const driver = new QueueDriver(broker, { queue: 'orders' }, environment);
    const spec = specOf(subscribed('order'));
    await driver.connect();
    await driver.declare(spec);
    const closing = newConnection(() => broker.close(), broker);
    await driver.subscribe(spec, { deliver() {}, quiesce: async () => {}, resume() {} });
    const last = newConnection(() => broker.close(), broker);
    if (how === 'drop') broker.dropConnections();
    else broker.close();
    await new Promise(setImmediate);
    await driver.close();
    for (const { connection } of [closing, last]) connection.close();
  });
});
