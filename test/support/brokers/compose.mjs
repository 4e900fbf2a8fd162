import { fileURLToPath } from 'node:url';
import { run } from './processes.mjs';

const file = fileURLToPath(new URL('../compose.yaml', import.meta.url));

/** @type {Promise<boolean> | undefined} */
let answers;

/** Whether an engine runs: the client alone, which many machines have, starts nothing. */
export function hasEngine() {
  answers ??= Promise.all([
    run('docker', ['info'], { limitMs: 10_000 }),
    run('docker', ['compose', 'version'], { limitMs: 10_000 }),
  ]).then(
    () => true,
    () => false,
  );
  return answers;
}

/** @param {import('./instances.mjs').Instance} instance */
export async function composeUp(instance) {
  const { broker } = instance;
  process.stderr.write(`starting ${broker} in a container\n`);
  await compose(instance, ['up', '--detach', broker]);
}

/**
 * The data is kept in a volume, unless `purge` is set.
 * @param {import('./instances.mjs').Instance} instance
 * @param {{ purge: boolean }} options
 */
export async function composeDown(instance, { purge }) {
  await compose(instance, ['down', '--timeout', '20', ...(purge ? ['--volumes'] : [])]);
}

/** @param {import('./instances.mjs').Instance} instance */
export async function composeKill(instance) {
  await compose(instance, ['kill', '--signal', 'SIGKILL', instance.broker]);
}

/**
 * @param {import('./instances.mjs').Instance} instance
 * @param {readonly string[]} args
 */
export function composeCtl(instance, args) {
  return compose(instance, ['exec', '-T', instance.broker, 'rabbitmqctl', '-q', ...args]);
}

/** @param {import('./instances.mjs').Instance} instance */
export function composeLog(instance) {
  return compose(instance, ['logs', '--tail', '15', instance.broker]);
}

/**
 * Each server is a project of its own, so that two versions, and those of single tests, run side by side.
 * @param {import('./instances.mjs').Instance} instance
 * @param {readonly string[]} args
 */
function compose({ id, version, port }, args) {
  const project = `nestjs-stork-${id.replaceAll('.', '-')}`;
  const env = {
    ...process.env,
    RABBITMQ_PORT: String(port),
    KAFKA_PORT: String(port),
    REDIS_PORT: String(port),
    ...(version && { RABBITMQ_VERSION: version, KAFKA_VERSION: version === '3.9' ? '3.9.1' : '4.1.1' }),
  };
  return run('docker', ['compose', '-p', project, '-f', file, ...args], { env });
}
