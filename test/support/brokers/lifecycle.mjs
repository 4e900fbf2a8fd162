import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { composeDown, composeKill, composeLog, composeUp, hasEngine } from './compose.mjs';
import { findGiven, findOnPort, isOurs } from './find.mjs';
import { home } from './instances.mjs';
import { brokers } from './kinds.mjs';
import { withLock } from './lock.mjs';
import { isListening } from './ports.mjs';
import { end, isRunning, lastLines, refOf } from './processes.mjs';
import { readState, writeState } from './state.mjs';

/** @typedef {import('./instances.mjs').Instance} Instance */

/** How long a listening server may be unresponsive before it counts as another program. */
const stallMs = 30_000;

/**
 * Returns the server, and starts it only if it does not run yet in any way.
 * @param {Instance} instance
 * @returns {Promise<import('./find.mjs').Found>}
 */
export async function bringUp(instance) {
  const found = (await findGiven(instance, { limitMs: 15_000 })) ?? (await findOnPort(instance));
  if (found) return found;
  const { id, broker, version, port, isThrowAway } = instance;
  const before = readState(home)[id];
  if (before?.how === 'native' && isOurs(before)) return whenReady(instance);
  const late = await findLate(instance);
  if (late) return late;
  const owner = isThrowAway ? { owner: refOf(process.pid) } : {};
  mkdirSync(instance.folder, { recursive: true });
  // A container takes no configuration of ours.
  const isUsual = instance.config.length === 0 && instance.kafka === undefined;
  if (isUsual && (await hasEngine())) {
    await writeState(home, id, { broker, how: 'compose', port, version, ...owner });
    await composeUp(instance);
  } else {
    await startNatively(instance, { broker, how: 'native', port, version, ...owner });
  }
  return whenReady(instance);
}

/**
 * Asks again while something listens on the port: a broker that is busy may not answer at once.
 * @param {Instance} instance
 * @returns {Promise<import('./find.mjs').Found | undefined>} Undefined where nothing listens.
 */
async function findLate(instance) {
  const { broker, port } = instance;
  for (const until = Date.now() + stallMs; await isListening(port); await sleep(250)) {
    const found = await findOnPort(instance);
    if (found) return found;
    if (Date.now() > until) throw new Error(`127.0.0.1:${port} is taken by something that is not ${broker}`);
  }
  return undefined;
}

/**
 * @param {Instance} instance
 * @param {import('./state.mjs').Entry} entry
 */
async function startNatively(instance, entry) {
  const { canRun, hint, install, launch } = brokers[instance.broker];
  await withLock(home, 'install', async () => {
    if (!(await canRun(instance))) throw new Error(`cannot be started here; it needs ${hint}`);
    await install(instance);
  });
  // Noted before and at once after the start: whatever ends this process, a later `down` knows what to end.
  await writeState(home, instance.id, entry);
  const leader = await launch(instance, entry);
  await writeState(home, instance.id, { leader });
}

/**
 * @param {Instance} instance
 * @returns {Promise<import('./find.mjs').Found>}
 */
async function whenReady(instance) {
  const { limitMs, mainProcess } = brokers[instance.broker];
  const isLate = (
    (until) => () =>
      Date.now() > until
  )(Date.now() + limitMs);
  for (;;) {
    const entry = readState(home)[instance.id];
    const main = entry?.how === 'native' ? mainProcess?.(instance) : undefined;
    if (main && entry?.main?.startedAt !== main.startedAt) await writeState(home, instance.id, { main });
    const found = await findOnPort(instance);
    if (found) return found;
    const hasEnded = entry?.how === 'native' && !isOurs(entry);
    if (hasEnded || isLate())
      throw new Error(await failure(instance, hasEnded ? 'ended' : 'is not ready yet'));
    await sleep(100);
  }
}

/**
 * @param {Instance} instance
 * @param {string} what
 */
async function failure(instance, what) {
  const isNative = readState(home)[instance.id]?.how === 'native';
  const log = isNative ? readFileSync(join(instance.folder, 'log'), 'utf8') : await composeLog(instance);
  await takeDown(instance);
  return `${instance.broker} ${what}; the last lines of its log:\n${lastLines(log)}`;
}

/**
 * Ends the server if it was started here.
 * @param {Instance} instance
 * @param {{ graceful?: boolean, purge?: boolean }} [options]
 * @returns {Promise<boolean>} Whether there was one.
 */
export async function takeDown(instance, { graceful = true, purge = false } = {}) {
  const { id, broker, folder } = instance;
  const entry = readState(home)[id];
  // Volumes outlive the entry, so a purge asks the engine also after an earlier `down`.
  const isInContainer = entry ? entry.how === 'compose' : purge && (await hasEngine());
  if (isInContainer) await composeDown(instance, { purge });
  if (entry?.how === 'native') {
    await endProcesses(instance, entry, graceful);
    await brokers[broker].ended?.(instance);
  }
  if (entry) await writeState(home, id, undefined);
  if (purge) rmSync(folder, { recursive: true, force: true });
  return entry !== undefined;
}

/**
 * Kills it without a shutdown. Its entry stays, so that the next start is one of the same server.
 * @param {Instance} instance
 */
export async function killHard(instance) {
  const entry = readState(home)[instance.id];
  if (!entry) throw new Error(`${instance.broker} on port ${instance.port} was not started here`);
  if (entry.how === 'compose') await composeKill(instance);
  else await endProcesses(instance, entry, false);
}

/**
 * @param {Instance} instance
 * @param {import('./state.mjs').Entry} entry
 * @param {boolean} graceful
 */
async function endProcesses(instance, { leader, main }, graceful) {
  if (!leader) return;
  // A start that was interrupted has not noted the server itself; its own note counts while the script around
  // it lives.
  const inner = main ?? (isRunning(leader) ? brokers[instance.broker].mainProcess?.(instance) : undefined);
  await end(leader, { graceful, main: inner ?? leader });
}
