import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { brokerNames, home } from './instances.mjs';
import { takeDown } from './lifecycle.mjs';
import { isRunning } from './processes.mjs';
import { readState } from './state.mjs';

const prefix = 'throw-away-';

/**
 * Removes the throw-away servers of test processes that ended without doing so, or every one.
 * @param {{ all: boolean }} options
 * @returns {Promise<string[]>} What was removed.
 */
export async function sweep({ all }) {
  const removed = [];
  for (const [id, { broker, port, version, owner }] of Object.entries(readState(home))) {
    if (!id.startsWith(prefix) || broker === 'epmd' || (!all && isRunning(owner))) continue;
    const folder = join(home, id);
    // The inner port and the configuration matter for starting only.
    const instance = { id, broker, version, port, innerPort: port, folder, isThrowAway: true, config: [] };
    await takeDown(instance, { graceful: false, purge: true });
    removed.push(id);
  }
  if (all) removeFolders();
  return removed;
}

/** The folders of those that were stopped and never removed. */
function removeFolders() {
  const isLeft = (/** @type {string} */ name) =>
    brokerNames.some((broker) => name.startsWith(prefix + broker));
  for (const name of readdirSync(home).filter(isLeft))
    rmSync(join(home, name), { recursive: true, force: true });
}
