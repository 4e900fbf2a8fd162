import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { canInstall, debianMirror, install } from './apt.mjs';
import { home } from './instances.mjs';
import { cleanEnvironment, run } from './processes.mjs';

const root = join(home, 'cache', 'debian13');

/**
 * Debian's system folders, and the data as `/data`, appear in the folder only for the one process and its
 * children: the mount namespace is theirs alone. So nothing has to be unmounted, several can run with data of
 * their own, and deleting the folder from outside never reaches the machine's own `/dev`.
 */
const script = `set -e
root=$1 data=$2
shift 2
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind "$data" "$root/data"
exec chroot "$root" "$@"`;

/** Where the data folder of a server is seen from inside. */
export const dataInside = '/data';

/**
 * The command that runs another one inside.
 * @param {string} data
 * @param {string} command
 * @param {readonly string[]} args
 * @returns {[string, ...string[]]}
 */
export function inside(data, command, args) {
  return ['unshare', '--mount', 'sh', '-c', script, 'sh', root, data, command, ...args];
}

export function canHaveDebian13() {
  return existsSync(root) || (canInstall() && debianMirror() !== undefined);
}

/** Debian 13 with its RabbitMQ in a folder; needs some 400 MB and is made once. */
export async function installDebian13() {
  if (existsSync(root)) return;
  await install(['debootstrap', 'mount', 'util-linux']);
  process.stderr.write('installing Debian 13 with rabbitmq-server into a folder\n');
  const made = `${root}.new`;
  rmSync(made, { recursive: true, force: true });
  mkdirSync(made, { recursive: true });
  const mirror = /** @type {string} */ (debianMirror());
  const bootstrap = ['--variant=minbase', '--include=ca-certificates', 'trixie', made, mirror];
  // A mount that debootstrap leaves behind, when it is interrupted, ends with its namespace.
  await run('unshare', ['--mount', 'debootstrap', ...bootstrap]);
  mkdirSync(join(made, 'data'));
  for (const file of ['/etc/resolv.conf', '/etc/hosts']) copyFileSync(file, join(made, file));
  writeFileSync(join(made, 'usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  const env = { ...cleanEnvironment(), DEBIAN_FRONTEND: 'noninteractive' };
  const setUp = `apt-get -q update
apt-get -q install --no-install-recommends -y rabbitmq-server
apt-get clean`;
  // Nothing of the machine is needed as data here, so an empty folder of its own serves.
  const command = ['-c', script, 'sh', made, join(made, 'data'), 'sh', '-ec', setUp];
  await run('unshare', ['--mount', 'sh', ...command], { env });
  // Renamed when complete: an interrupted installation starts again.
  renameSync(made, root);
}
