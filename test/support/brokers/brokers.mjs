import { existsSync } from 'node:fs';
import { parseArguments, usage } from './arguments.mjs';
import { findGiven, findOnPort } from './find.mjs';
import { home, instanceOf, knownInstances } from './instances.mjs';
import { releaseEpmd } from './epmd.mjs';
import { brokers } from './kinds.mjs';
import { bringUp, takeDown } from './lifecycle.mjs';
import { withLock } from './lock.mjs';
import { readState } from './state.mjs';
import { sweep } from './sweep.mjs';

/** @typedef {import('./arguments.mjs').Arguments} Arguments */
/** @typedef {import('./find.mjs').Found} Found */

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 1;
}

/** @param {readonly string[]} args */
async function main(args) {
  const asked = read(args);
  if (!asked) return 2;
  if (asked.command === 'status') return status(asked);
  if (asked.command === 'up') return withLock(home, 'servers', () => up(asked));
  return existsSync(home) ? withLock(home, 'servers', () => down(asked)) : 0;
}

/** @param {readonly string[]} args */
function read(args) {
  try {
    return parseArguments(args);
  } catch (error) {
    console.error(`${messageOf(error)}\n\n${usage}`);
    return undefined;
  }
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {Arguments} asked */
async function up({ names, options }) {
  const outcomes = await Promise.all(names.map((name) => attempt(() => bringUp(instanceOf(name, options)))));
  return report(names, outcomes);
}

/** @param {Arguments} asked */
async function status({ names, options, isAll }) {
  /** @param {import('./instances.mjs').Instance} instance */
  const find = async (instance) => (await findGiven(instance)) ?? (await findOnPort(instance));
  const instances = names.map((name) => instanceOf(name, options));
  const outcomes = await Promise.all(instances.map((instance) => attempt(() => find(instance))));
  const code = report(names, outcomes);
  // Servers of other versions are shown only if they run.
  const state = readState(home);
  const others = knownInstances().filter(
    ({ id }) => isAll && state[id] && !instances.some((each) => each.id === id),
  );
  for (const other of others) report([other.broker], [await attempt(() => findOnPort(other))]);
  return code;
}

/** @param {Arguments} asked */
async function down({ names, options, isAll, purge }) {
  // A name with a version means that server, a bare name all servers of that broker.
  const isMeant = (/** @type {import('./instances.mjs').Instance} */ { id, broker }) =>
    names.includes(broker) &&
    (broker === 'redis' || !options[broker] || instanceOf(broker, options).id === id);
  const instances = knownInstances().filter(isMeant);
  const ended = await Promise.all(
    instances.map(async (instance) => ((await takeDown(instance, { purge })) ? [instance.id] : [])),
  );
  await releaseEpmd();
  const removed = isAll ? await sweep({ all: true }) : [];
  for (const id of [...ended.flat(), ...removed]) console.log(`${id.padEnd(12)} ended`);
  if (readState(home)['epmd'] && isAll)
    console.log('epmd         left running: it serves a node of somebody else');
  return 0;
}

/**
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T | Error>}
 */
async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    return error instanceof Error ? error : new Error(messageOf(error));
  }
}

/**
 * One line for each, and the exit code.
 * @param {readonly import('./instances.mjs').BrokerName[]} names
 * @param {readonly (Found | Error | undefined)[]} outcomes
 */
function report(names, outcomes) {
  let code = 0;
  for (const [i, name] of names.entries()) {
    const outcome = outcomes[i];
    if (outcome && !(outcome instanceof Error)) console.log(line(name, outcome));
    else console.log(`${name.padEnd(9)} ${outcome ? outcome.message : 'down'}`);
    if (!outcome || outcome instanceof Error) code = 1;
  }
  return code;
}

/**
 * @param {import('./instances.mjs').BrokerName} name
 * @param {Found} found
 */
function line(name, { version = '?', address, how, url }) {
  const { variable } = brokers[name];
  // A given address may contain a password, and is set already.
  const setting = how === 'given' ? `${variable} is set` : `${variable}=${url}`;
  return `${name.padEnd(9)} ${version.padEnd(8)} ${address.padEnd(16)} ${how.padEnd(14)} ${setting}`;
}
