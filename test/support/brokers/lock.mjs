import { linkSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRunning, refOf } from './processes.mjs';

/** A first start installs packages, and a second process waits for it. */
const limitMs = 600_000;

let taken = 0;

/**
 * Runs `work` while no other process, and no other call in this one, holds the lock of that name. A lock
 * whose process has ended counts for nothing.
 *
 * Locks are always taken in this order, so that no two wait for each other: servers, install, epmd, state.
 *
 * @template T
 * @param {string} folder
 * @param {'servers' | 'install' | 'epmd' | 'state'} name
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(folder, name, work) {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}.lock`);
  // A link appears at once with its content; a file that is created and then written could be read empty.
  const own = `${file}.${process.pid}.${taken++}`;
  writeFileSync(own, JSON.stringify(refOf(process.pid)));
  try {
    await take(file, own);
    try {
      return await work();
    } finally {
      rmSync(file, { force: true });
    }
  } finally {
    rmSync(own, { force: true });
  }
}

/**
 * @param {string} file
 * @param {string} own
 */
async function take(file, own) {
  const until = Date.now() + limitMs;
  for (;;) {
    try {
      return linkSync(own, file);
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    }
    const holder = read(file);
    if (holder && !isRunning(holder)) breakStale(file, holder, own);
    else if (Date.now() > until) throw new Error(`${file} is still held by process ${holder?.pid}`);
    else await sleep(20);
  }
}

/**
 * Renaming removes the lock atomically. If another process was faster and the file already belongs to the
 * next holder, it is restored.
 * @param {string} file
 * @param {import('./processes.mjs').ProcessRef} stale
 * @param {string} own
 */
function breakStale(file, stale, own) {
  const isStale = (/** @type {string} */ path) => {
    const found = read(path);
    return found?.pid === stale.pid && found.startedAt === stale.startedAt;
  };
  const aside = `${own}.stale`;
  try {
    renameSync(file, aside);
    if (!isStale(aside)) linkSync(aside, file);
    // What the dead process wrote to take its locks.
    const links = readdirSync(dirname(file)).filter((name) => name.includes(`.lock.${stale.pid}.`));
    for (const path of links.map((name) => join(dirname(file), name))) if (isStale(path)) rmSync(path);
  } catch {
    // Broken by another process in the meantime: the next round sees who holds it now.
  } finally {
    rmSync(aside, { force: true });
  }
}

/**
 * @param {string} file
 * @returns {import('./processes.mjs').ProcessRef | undefined}
 */
function read(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}
