import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { home } from './instances.mjs';
import { withLock } from './lock.mjs';
import { isListening } from './ports.mjs';
import { cleanEnvironment, isRunning, spawnDetached } from './processes.mjs';
import { readState, writeState } from './state.mjs';

const port = 4369;

/** Keeps Erlang's name server off every other interface. */
export const epmdEnvironment = { ERL_EPMD_ADDRESS: '127.0.0.1' };

const env = cleanEnvironment(epmdEnvironment);

/**
 * Starts Erlang's name server unless one runs. RabbitMQ would start it by itself, but then `down` could not
 * know that it may stop it.
 * @param {string} id The server that needs it: recorded before, so that stopping the last other server does
 * not stop it.
 * @param {import('./state.mjs').Entry} entry
 * @param {[string, ...string[]]} command
 */
export async function holdEpmd(id, entry, [command, ...args]) {
  await withLock(home, 'epmd', async () => {
    await writeState(home, id, entry);
    if (await isListening(port)) return;
    const leader = await spawnDetached(command, args, { env, cwd: home, log: join(home, 'epmd.log') });
    await writeState(home, 'epmd', { broker: 'epmd', how: 'native', port, leader });
    for (let i = 0; i < 200 && !(await isListening(port)); i++) await sleep(25);
  });
}

/**
 * Ends the name server if it was started here and no server that was started here needs it any more.
 * @param {string} [id] One that has just ended.
 */
export async function releaseEpmd(id) {
  await withLock(home, 'epmd', async () => {
    if (id !== undefined) await writeState(home, id, undefined);
    const state = readState(home);
    const epmd = state['epmd'];
    const isNeeded = Object.values(state).some(
      ({ broker, how }) => broker === 'rabbitmq' && how === 'native',
    );
    if (!epmd || isNeeded) return;
    if (isRunning(epmd.leader) && !(await askToEnd())) return;
    for (let i = 0; i < 100 && isRunning(epmd.leader); i++) await sleep(20);
    if (!isRunning(epmd.leader)) await writeState(home, 'epmd', undefined);
  });
}

/**
 * By its own protocol and not by a signal: it refuses while a node is registered, which is then a node that
 * was started elsewhere.
 * @returns {Promise<boolean>} Whether it ends.
 */
function askToEnd() {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect({ host: '127.0.0.1', port, timeout: 2_000 }, () => socket.write('\0\x01k'));
    socket.on('data', (chunk) => (answer += chunk));
    socket.once('timeout', () => socket.destroy());
    socket.once('error', () => socket.destroy());
    socket.once('close', () => resolve(answer !== 'NO'));
  });
}
