import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Interruption } from '../../../../lib/cli/host.js';
import { openStore } from '../../../../lib/cli/input/connect.js';
import type { Environment } from '../../../../lib/cli/input/target.js';
import { FakeStore, runOver } from '../fake-host.js';

/** Accepts connections and never answers. */
async function startSilentBroker(): Promise<{
  readonly address: string;
  readonly connected: Promise<unknown>;
}> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    connected: once(server, 'connection'),
  };
}

/** Runs `dlq list` against a silent broker. */
async function listOfSilent(name: 'RabbitMQ' | 'Kafka') {
  const { address, connected } = await startSilentBroker();
  const isKafka = name === 'Kafka';
  const env: Environment = isKafka
    ? { KAFKA_BROKERS: address, KAFKA_GROUP_ID: 'billing' }
    : { RABBITMQ_URL: `amqp://app:s3cret@${address}`, QUEUE_NAME: 'orders' };
  const interrupt = new AbortController();
  const ran = runOver(new FakeStore([]), `dlq list${isKafka ? ' --topic orders' : ''}`, {
    env,
    signal: interrupt.signal,
    open: openStore,
  });
  return { ran, connected, interrupt: () => interrupt.abort(new Interruption('SIGINT', 130)) };
}

const interrupted = { code: 130, stdout: '', stderr: 'interrupted by SIGINT\n' };

describe.each(['RabbitMQ', 'Kafka'] as const)('a list of a silent %s', (name) => {
  it('is interrupted while the handshake has no answer', async () => {
    const { ran, connected, interrupt } = await listOfSilent(name);
    await connected;
    const startedAt = performance.now();
    interrupt();
    expect(await ran).toMatchObject(interrupted);
    expect(performance.now() - startedAt).toBeLessThan(3_000);
  });

  it('is interrupted while modules are loaded, and does not connect', async () => {
    const { ran, connected, interrupt } = await listOfSilent(name);
    interrupt();
    expect(await ran).toMatchObject(interrupted);
    await expect(Promise.race([connected, Promise.resolve('not connected')])).resolves.toBe('not connected');
  });
});
