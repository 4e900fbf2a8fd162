import { setTimeout as sleep } from 'node:timers/promises';
import { askGiven, fits, givenAddress } from './given.mjs';
import { home } from './instances.mjs';
import { brokers } from './kinds.mjs';
import { isRunning } from './processes.mjs';
import { readState } from './state.mjs';

/**
 * A server that is up.
 * @typedef {object} Found
 * @property {import('./instances.mjs').Instance} instance
 * @property {'given' | 'already there' | 'compose' | 'native'} how
 * @property {string | undefined} version
 * @property {string} url What clients take.
 * @property {string} address What may be shown: without the password.
 */

/**
 * @param {import('./instances.mjs').Instance} instance
 * @param {{ limitMs: number }} [options] How long it may take until it answers.
 * @returns {Promise<Found | undefined>} Undefined where the environment gives none that would do.
 */
export async function findGiven(instance, { limitMs } = { limitMs: 0 }) {
  const given = instance.isThrowAway ? undefined : givenAddress(instance.broker);
  if (!given) return undefined;
  const { variable } = brokers[instance.broker];
  const until = Date.now() + limitMs;
  let answer = await askGiven(instance, given);
  while (!answer && Date.now() < until) {
    await sleep(250);
    answer = await askGiven(instance, given);
  }
  const address = given.addresses.map(({ host, port }) => `${host}:${port}`).join(',');
  // Nothing is started instead: the user who set the variable would believe that the given server was used.
  if (!answer) throw new Error(`nothing answers at ${address}, which ${variable} gives`);
  if (!fits(instance, answer)) return undefined;
  return { instance, how: 'given', version: answer.version, url: given.url, address };
}

/**
 * @param {import('./instances.mjs').Instance} instance
 * @returns {Promise<Found | undefined>} Undefined where nothing answers on the port.
 */
export async function findOnPort(instance) {
  const { id, broker, port, version: wanted } = instance;
  const { ask, probe, release, url } = brokers[broker];
  const answer = await (ask?.(instance) ?? probe({ host: '127.0.0.1', port }));
  if (!answer) return undefined;
  const address = `127.0.0.1:${port}`;
  if (!fits(instance, answer))
    throw new Error(`${address} is taken by ${broker} ${answer.version}, not ${wanted}`);
  const entry = readState(home)[id];
  const how = entry && isOurs(entry) ? entry.how : 'already there';
  const version = how === 'already there' ? answer.version : (release?.(instance) ?? answer.version);
  return { instance, how, version, url: url(port), address };
}

/**
 * Whether what an entry remembers still runs. Of a container it is the engine that knows.
 * @param {import('./state.mjs').Entry} entry
 */
export function isOurs({ how, leader, main }) {
  return how === 'compose' || isRunning(leader) || isRunning(main);
}
