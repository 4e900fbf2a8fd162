import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * One process, and not a later one that got the same number.
 * @typedef {{ pid: number, startedAt: string }} ProcessRef
 */

/**
 * When a process started, in whatever the system counts in; undefined once it has ended.
 * @param {number} pid
 * @returns {string | undefined}
 */
export function startTimeOf(pid) {
  if (existsSync('/proc/self/stat')) {
    try {
      // The name in parentheses may hold blanks, so the fields are counted from behind it.
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      // The first thread may be dead while others, which hold the ports, are still about to be.
      const isZombie = fields[0] === 'Z' && Number(fields[17]) <= 1;
      return isZombie ? undefined : fields[19];
    } catch {
      return undefined;
    }
  }
  const { stdout } = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' });
  return stdout?.trim() || undefined;
}

/**
 * @param {number} pid
 * @returns {ProcessRef}
 */
export function refOf(pid) {
  return { pid, startedAt: startTimeOf(pid) ?? '' };
}

/**
 * @param {ProcessRef | undefined} ref
 * @returns {boolean}
 */
export function isRunning(ref) {
  return ref !== undefined && ref.startedAt !== '' && startTimeOf(ref.pid) === ref.startedAt;
}

/**
 * Servers get none of the caller's settings: an inherited `ERL_FLAGS` or `RABBITMQ_…` would change the
 * server.
 * @param {Record<string, string>} [more]
 * @returns {Record<string, string>}
 */
export function cleanEnvironment(more = {}) {
  const { PATH = '', JAVA_HOME } = process.env;
  return {
    PATH: `${PATH}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    LANG: 'C.UTF-8',
    ...(JAVA_HOME && { JAVA_HOME }),
    ...more,
  };
}

/**
 * Runs a command to its end and gives what it printed; the last lines of its output are the reason when it
 * fails.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, cwd?: string, limitMs?: number }} [options]
 * @returns {Promise<string>}
 */
export function run(command, args, { env = process.env, cwd, limitMs } = {}) {
  return new Promise((resolve, reject) => {
    // On SIGTERM, Erlang, which rabbitmqctl runs on, ends with code 0 in the middle of its output, or hangs.
    const limit = { timeout: limitMs, killSignal: /** @type {const} */ ('SIGKILL') };
    const child = spawn(command, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'], ...limit });
    let stdout = '';
    let output = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      output += chunk;
    });
    child.stderr.on('data', (chunk) => (output += chunk));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) return resolve(stdout);
      const ended = code === null ? `was ended by ${signal}` : `ended with code ${code}`;
      const reason = child.killed ? `had not ended after ${limitMs} ms` : ended;
      reject(new Error(`${command} ${args.join(' ')} ${reason}\n${lastLines(output)}`));
    });
  });
}

/**
 * Starts a server that outlives this process and its terminal, with its output in a file.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ env: Record<string, string>, cwd: string, log: string }} options
 * @returns {Promise<ProcessRef>}
 */
export function spawnDetached(command, args, { env, cwd, log }) {
  const output = openSync(log, 'a');
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, cwd, detached: true, stdio: ['ignore', output, output] });
    closeSync(output);
    child.once('error', reject);
    child.once('spawn', () => resolve(refOf(/** @type {number} */ (child.pid))));
    child.unref();
  });
}

/**
 * Ends a process that `spawnDetached` started, and everything in its process group.
 * @param {ProcessRef} leader The process that was spawned.
 * @param {{ graceful: boolean, main?: ProcessRef | undefined, limitMs?: number }} options `main` is the one
 * that takes the signal where the leader is only a wrapper around it.
 */
export async function end(leader, { graceful, main = leader, limitMs = 20_000 }) {
  const isLeft = () => isRunning(leader) || isRunning(main);
  if (graceful && isRunning(main)) {
    signal(main.pid, 'SIGTERM');
    await gone(isLeft, limitMs);
  }
  if (!isLeft()) return;
  if (isRunning(main)) signal(main.pid, 'SIGKILL');
  // The system does not reuse the number of a group while a member lives, so the group is still the one that
  // was started.
  if (isRunning(leader)) signal(-leader.pid, 'SIGKILL');
  await gone(isLeft, 5_000);
}

/**
 * @param {number} pid
 * @param {NodeJS.Signals} name
 */
function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error;
  }
}

/**
 * @param {() => boolean} isLeft
 * @param {number} limitMs
 */
async function gone(isLeft, limitMs) {
  for (const until = Date.now() + limitMs; isLeft() && Date.now() < until;) await sleep(30);
}

/**
 * @param {string} text
 * @param {number} [count]
 */
export function lastLines(text, count = 15) {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
