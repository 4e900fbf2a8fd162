import { existsSync, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { canInstall, install } from './apt.mjs';
import { cleanEnvironment, spawnDetached } from './processes.mjs';
import { askRedis } from './probes.mjs';

const program = 'redis-server';

/** @type {import('./kinds.mjs').Broker} */
export const redis = {
  variable: 'REDIS_URL',
  limitMs: 20_000,
  hint: 'a container engine that runs, or the program redis-server (Debian: package redis-server), or REDIS_URL',
  url: (port) => `redis://127.0.0.1:${port}`,
  probe: askRedis,
  canRun: async () => isInstalled() || canInstall(),
  install: async () => {
    if (!isInstalled()) await install(['redis-server']);
  },
  launch: async ({ port, folder, config }) => {
    const data = join(folder, 'data');
    mkdirSync(data, { recursive: true });
    const settings = { port, bind: '127.0.0.1', dir: data, appendonly: 'yes', save: '', daemonize: 'no' };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const env = cleanEnvironment({ HOME: folder });
    return spawnDetached(program, [...args, ...config], { env, cwd: folder, log: join(folder, 'log') });
  },
};

function isInstalled() {
  const folders = cleanEnvironment()['PATH']?.split(delimiter) ?? [];
  return folders.some((folder) => existsSync(join(folder, program)));
}
