import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { availableVersion, canInstall, install } from './apt.mjs';
import { canHaveDebian13, dataInside, inside, installDebian13 } from './debian13.mjs';
import { epmdEnvironment, holdEpmd, releaseEpmd } from './epmd.mjs';
import { isVersion } from './instances.mjs';
import { cleanEnvironment, refOf, run, spawnDetached } from './processes.mjs';
import { askRabbitMq } from './probes.mjs';

/** The wrappers in `/usr/sbin` change the user and ignore the environment. */
const binaries = '/usr/lib/rabbitmq/bin';

/** Each call starts an Erlang VM: seconds on a busy machine, more than a minute on an overloaded one. */
const ctlLimitMs = 180_000;

/** Keeps Erlang's distribution, of the server and of rabbitmqctl, off every other interface. */
const loopbackOnly = '-kernel inet_dist_use_interface {127,0,0,1}';

/** @type {import('./kinds.mjs').Broker} */
export const rabbitmq = {
  variable: 'RABBITMQ_URL',
  limitMs: 180_000,
  hint: 'a container engine that runs, or Debian as root (packages rabbitmq-server and, for 4, debootstrap), or RABBITMQ_URL',
  url: (port) => `amqp://guest:guest@127.0.0.1:${port}`,
  probe: askRabbitMq,
  canRun: async (instance) => (await hasPackage(instance)) || (isFour(instance) && canHaveDebian13()),
  install: async (instance) => {
    if (!(await hasPackage(instance))) return installDebian13();
    if (!existsSync(binaries)) await install(['rabbitmq-server']);
  },
  launch,
  mainProcess: ({ folder }) => {
    // The spawned process is a shell that waits for the server, and which signal it passes on differs by version.
    const pid = existsSync(join(folder, 'pid')) ? Number(readFileSync(join(folder, 'pid'), 'utf8')) : 0;
    return pid > 0 ? refOf(pid) : undefined;
  },
  ended: ({ id }) => releaseEpmd(id),
  ctl: async (instance, args) => {
    const { command, data } = await placeOf(instance);
    const [program, ...rest] = command(`${binaries}/rabbitmqctl`, ['-q', '-n', nodeName(instance), ...args]);
    return run(program, rest, { env: environment(data), cwd: instance.folder, limitMs: ctlLimitMs });
  },
};

/**
 * @param {import('./instances.mjs').Instance} instance
 * @param {import('./state.mjs').Entry} entry
 */
async function launch(instance, entry) {
  const { id, port, innerPort, folder, config } = instance;
  const { command, data } = await placeOf(instance);
  writeFileSync(
    join(folder, 'rabbitmq.conf'),
    [`listeners.tcp.1 = 127.0.0.1:${port}`, ...config, ''].join('\n'),
  );
  writeFileSync(join(folder, 'advanced.config'), '[].\n');
  writeFileSync(join(folder, 'enabled_plugins'), '[].\n');
  writeFileSync(join(folder, 'environment'), '');
  rmSync(join(folder, 'pid'), { force: true });
  await holdEpmd(id, entry, command('epmd'));
  const env = {
    ...environment(data),
    RABBITMQ_NODENAME: nodeName(instance),
    RABBITMQ_NODE_PORT: String(port),
    RABBITMQ_DIST_PORT: String(innerPort),
    RABBITMQ_MNESIA_BASE: `${data}/data`,
    RABBITMQ_SCHEMA_DIR: `${data}/schema`,
    RABBITMQ_LOG_BASE: data,
    RABBITMQ_LOGS: '-',
    RABBITMQ_PID_FILE: `${data}/pid`,
    RABBITMQ_CONFIG_FILE: `${data}/rabbitmq`,
    RABBITMQ_ADVANCED_CONFIG_FILE: `${data}/advanced.config`,
    RABBITMQ_ENABLED_PLUGINS_FILE: `${data}/enabled_plugins`,
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: loopbackOnly,
  };
  const [program, ...args] = command(`${binaries}/rabbitmq-server`);
  return spawnDetached(program, args, { env, cwd: folder, log: join(folder, 'log') });
}

/**
 * Where it runs: on the machine itself, or in the folder with Debian 13, which sees the data under another name.
 * @param {import('./instances.mjs').Instance} instance
 * @returns {Promise<{ data: string, command: (name: string, args?: readonly string[]) => [string, ...string[]] }>}
 */
async function placeOf(instance) {
  const { folder } = instance;
  if (await hasPackage(instance)) return { data: folder, command: (name, args = []) => [name, ...args] };
  return { data: dataInside, command: (name, args = []) => inside(folder, name, args) };
}

/**
 * Whether the machine's own package is, or would be, of the version that is wanted.
 * @param {import('./instances.mjs').Instance} instance
 */
async function hasPackage({ version }) {
  const available = await availableVersion('rabbitmq-server');
  if (!available || !isVersion(available, version)) return false;
  return existsSync(binaries) || canInstall();
}

/** @param {import('./instances.mjs').Instance} instance */
function isFour({ version }) {
  return version !== undefined && isVersion('4.0', version);
}

/** @param {import('./instances.mjs').Instance} instance */
function nodeName({ id }) {
  return `${id}@localhost`;
}

/**
 * What the server and rabbitmqctl have in common. The Erlang cookie lies in the home folder.
 * @param {string} data
 */
function environment(data) {
  return cleanEnvironment({
    HOME: data,
    ...epmdEnvironment,
    RABBITMQ_CONF_ENV_FILE: `${data}/environment`,
    RABBITMQ_CTL_ERL_ARGS: loopbackOnly,
    RABBITMQ_CTL_DIST_PORT_MIN: '35672',
    RABBITMQ_CTL_DIST_PORT_MAX: '35772',
  });
}
