import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './results.mjs';

const packages = ['common', 'core', 'microservices', 'platform-express', 'testing'];

/**
 * Copies the sources of this checkout and installs another version of Nest beside them.
 *
 * @param {string} version of Nest
 * @returns {string} the folder
 */
export function checkoutWithNest(version) {
  const folder = join(root, '.build', `nest-${version}`);
  rmSync(folder, { recursive: true, force: true });
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], {
    cwd: root,
    encoding: 'utf8',
  });
  for (const file of listed.split('\0')) {
    if (file !== '' && existsSync(join(root, file))) cpSync(join(root, file), join(folder, file));
  }
  // The copy uses the brokers installed in this checkout.
  mkdirSync(join(root, '.brokers'), { recursive: true });
  symlinkSync(join(root, '.brokers'), join(folder, '.brokers'));
  const npm = (/** @type {string[]} */ ...args) =>
    execFileSync('npm', [...args, '--loglevel', 'error'], { cwd: folder, stdio: 'inherit' });
  npm('ci', '--ignore-scripts');
  npm('install', '--no-save', '--ignore-scripts', ...packages.map((name) => `@nestjs/${name}@${version}`));
  return folder;
}
