import { bringUp, killHard, takeDown } from './lifecycle.mjs';
import { ctlOf } from './ctl.mjs';
import { home, instanceOf, throwAwayInstance } from './instances.mjs';
import { withLock } from './lock.mjs';
import { sweep } from './sweep.mjs';

/** @typedef {import('./instances.mjs').BrokerName} BrokerName */
/** @typedef {import('./instances.mjs').Options} Options */

export { throwAwayCluster } from './cluster.mjs';

/**
 * @param {readonly BrokerName[]} names
 * @param {Options} [options]
 */
export async function ensure(names, options = {}) {
  const instances = names.map((name) => instanceOf(name, options));
  const handles = await withLock(home, 'servers', () =>
    Promise.all(instances.map(async (instance) => [instance.broker, handleOf(await bringUp(instance))])),
  );
  return Object.fromEntries(handles);
}

/**
 * @param {BrokerName} name
 * @param {Options} [options]
 */
export async function start(name, options = {}) {
  return withLock(home, 'servers', async () => handleOf(await bringUp(instanceOf(name, options))));
}

/**
 * @param {BrokerName} name
 * @param {Options} [options]
 */
export async function stop(name, options = {}) {
  await withLock(home, 'servers', () => takeDown(instanceOf(name, options)));
}

/**
 * @param {BrokerName} name
 * @param {Options} [options]
 */
export async function kill(name, options = {}) {
  await withLock(home, 'servers', () => killHard(instanceOf(name, options)));
}

/**
 * @param {BrokerName} name
 * @param {import('./instances.mjs').ThrowAwayOptions} [options]
 */
export async function throwAway(name, options = {}) {
  await sweep({ all: false });
  const instance = await throwAwayInstance(name, options);
  const begin = async () => void (await bringUp(instance));
  const handle = handleOf(await bringUp(instance));
  return {
    ...handle,
    start: begin,
    stop: async () => void (await takeDown(instance)),
    kill: () => killHard(instance),
    remove: async () => void (await takeDown(instance, { graceful: false, purge: true })),
  };
}

/** @param {import('./find.mjs').Found} found */
function handleOf(found) {
  const { instance, url, version, how } = found;
  if (instance.broker === 'kafka') return { brokers: url.split(','), version, how };
  if (instance.broker === 'redis') return { url, version, how };
  return { url, version, how, ctl: ctlOf(found) };
}
