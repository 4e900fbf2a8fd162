import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * A rival that is no dependency of the library has a `package.json` beside its subjects, and its packages are
 * installed there: it may need another version of Nest. Peer ranges are not enforced, since some lag behind
 * the versions that they run on.
 */
export function installPeers(name) {
  const folder = fileURLToPath(new URL(`subjects/${name}/`, import.meta.url));
  if (!existsSync(`${folder}package.json`)) return;
  const { dependencies } = JSON.parse(readFileSync(`${folder}package.json`, 'utf8'));
  if (Object.entries(dependencies).every(([peer, version]) => installed(folder, peer) === version)) return;
  const wanted = Object.entries(dependencies).map((peer) => peer.join('@'));
  console.log(`installing what "${name}" needs, once, into ${folder}node_modules: ${wanted.join(', ')}`);
  const flags = ['--no-package-lock', '--no-audit', '--no-fund', '--legacy-peer-deps', '--loglevel=error'];
  execFileSync('npm', ['install', ...flags], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
}

function installed(folder, peer) {
  const file = `${folder}node_modules/${peer}/package.json`;
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).version : undefined;
}
