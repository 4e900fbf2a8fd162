import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withLock } from './lock.mjs';

/**
 * What is remembered of a server that was started here.
 * @typedef {object} Entry
 * @property {import('./instances.mjs').BrokerName | 'epmd'} broker
 * @property {'native' | 'compose'} how
 * @property {number} port
 * @property {string | undefined} [version] The one that was asked for.
 * @property {import('./processes.mjs').ProcessRef} [leader] The process that was spawned; none yet while it is being started.
 * @property {import('./processes.mjs').ProcessRef} [main] The server itself, where the spawned process is a script around it.
 * @property {import('./processes.mjs').ProcessRef} [owner] The test process that a throw-away server belongs to.
 */

/**
 * @param {string} folder
 * @returns {Record<string, Entry>}
 */
export function readState(folder) {
  try {
    return JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8'));
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return {};
    throw error;
  }
}

/**
 * Merges into the entry of that id, or removes it when `change` is undefined.
 * @param {string} folder
 * @param {string} id
 * @param {Partial<Entry> | undefined} change
 */
export async function writeState(folder, id, change) {
  await withLock(folder, 'state', () => {
    const { [id]: before, ...others } = readState(folder);
    const after = change ? { ...others, [id]: { ...before, ...change } } : others;
    // Written beside and renamed: a reader, or a process that dies here, never sees half of it.
    const file = join(folder, 'state.json');
    writeFileSync(`${file}.new`, `${JSON.stringify(after, undefined, 2)}\n`);
    renameSync(`${file}.new`, file);
  });
}
