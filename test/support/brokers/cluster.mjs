import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { newClusterId } from './cluster-id.mjs';
import { home, instanceOf } from './instances.mjs';
import { bringUp, killHard, takeDown } from './lifecycle.mjs';
import { freePorts } from './ports.mjs';
import { askKafka } from './probes.mjs';
import { sweep } from './sweep.mjs';

/** @typedef {import('./instances.mjs').Instance} Instance */

const limitMs = 180_000;

/**
 * Kafka nodes that are broker and controller at once.
 * @param {'kafka'} name
 * @param {{ brokers?: number, version?: string, config?: readonly string[] }} [options]
 */
export async function throwAwayCluster(name, { brokers = 3, version, config = [] } = {}) {
  if (!Number.isInteger(brokers) || brokers < 1 || brokers > 5)
    throw new TypeError(`brokers: expected an integer from 1 to 5, given ${brokers}`);
  await sweep({ all: false });
  const ports = await freePorts(2 * brokers);
  const clusterId = newClusterId();
  const controllers = ports.slice(brokers);
  const instances = ports.slice(0, brokers).map((port, i) => {
    const id = `throw-away-${name}-${port}`;
    const cluster = { clusterId, nodeId: i + 1, controllers };
    const wanted = instanceOf(name, { [name]: version }).version;
    return {
      id,
      broker: name,
      version: wanted,
      port,
      innerPort: controllers[i] ?? 0,
      folder: join(home, id),
      isThrowAway: true,
      config,
      kafka: { cluster },
    };
  });
  const remove = async () => {
    await Promise.all(instances.map((each) => takeDown(each, { graceful: false, purge: true })));
  };
  try {
    const started = await Promise.allSettled(instances.map((each) => bringUp(each)));
    const failed = started.find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason;
    await whole(instances);
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    brokers: instances.map(addressOf),
    nodes: instances.map((instance, i) => ({
      id: i + 1,
      address: addressOf(instance),
      start: async () => void (await bringUp(instance)),
      stop: async () => void (await takeDown(instance)),
      kill: () => killHard(instance),
    })),
    remove,
  };
}

/**
 * Resolves when every node knows of all the others.
 * @param {readonly Instance[]} instances
 */
async function whole(instances) {
  const ids = instances.map((_, i) => i + 1);
  const until = Date.now() + limitMs;
  for (const { port } of instances) {
    while (!(await askKafka({ host: '127.0.0.1', port }, ids))) {
      if (Date.now() > until)
        throw new Error(`the node on 127.0.0.1:${port} does not see all of ${ids.join(', ')}`);
      await sleep(100);
    }
  }
}

/** @param {Instance} instance */
function addressOf({ port }) {
  return `127.0.0.1:${port}`;
}
