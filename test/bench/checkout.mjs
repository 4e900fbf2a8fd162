import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isDeepStrictEqual } from 'node:util';

const root = fileURLToPath(new URL('../../', import.meta.url));
const checkouts = `${root}.build/bench/`;
const shownLines = 20;

/**
 * Checks a commit out and builds it, once, below `.build/bench`. Gives its short hash as `name`, the first
 * line of its message as `title` and the URL of its `test/bench` folder as `bench`. Modules there import
 * `nestjs-stork` from that checkout: Node resolves a package's own name by the nearest `package.json`.
 */
export function checkOut(commit) {
  const sha = resolve(commit);
  const folder = `${checkouts}${sha}`;
  if (existsSync(folder)) installPackages(folder);
  else build(sha, folder);
  return {
    name: git('rev-parse', '--short', sha).trim(),
    title: git('log', '-1', '--format=%s', sha).trim(),
    bench: pathToFileURL(`${folder}/test/bench/`),
  };
}

function resolve(commit) {
  try {
    return git('rev-parse', '--verify', '--quiet', '--end-of-options', `${commit}^{commit}`).trim();
  } catch (error) {
    if (error.code === 'ENOENT') throw error;
    throw new Error(`--against: git finds no commit "${commit}"`, { cause: error });
  }
}

/** Renames the folder last, so that an interrupted build is never taken for a finished one. */
function build(sha, folder) {
  console.log(`building ${sha}, once, in ${folder}`);
  const unfinished = `${folder}.${process.pid}`;
  try {
    mkdirSync(unfinished, { recursive: true });
    // An archive, because git would register a worktree and keep it registered.
    const archive = execFileSync('git', ['archive', sha], { cwd: root, maxBuffer: Infinity });
    execFileSync('tar', ['-x', '-C', unfinished], { input: archive });
    installPackages(unfinished);
    run(unfinished, `${sha} does not build`, ['run', '--silent', 'build']);
    renameSync(unfinished, folder);
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    throw error;
  }
}

/**
 * A checkout that locks the same packages as this working tree needs none of its own: Node, npm and
 * TypeScript look for packages in the folders above, too. Each run checks it, since this working tree may
 * have changed its packages since the checkout.
 */
function installPackages(folder) {
  if (isDeepStrictEqual(lockedPackages(folder), lockedPackages(root))) return;
  // npm writes this file last.
  if (existsSync(`${folder}/node_modules/.package-lock.json`)) return;
  console.log(`installing the packages of ${folder}: it locks others than this working tree`);
  run(folder, `the packages of ${folder} cannot be installed`, ['ci', '--no-audit', '--no-fund']);
}

/** Without the package itself, whose version and scripts do not matter. */
function lockedPackages(folder) {
  const { packages } = JSON.parse(readFileSync(`${folder}/package-lock.json`, 'utf8'));
  return { ...packages, '': undefined };
}

function run(folder, failure, args) {
  try {
    execFileSync('npm', args, { cwd: folder, stdio: 'pipe', encoding: 'utf8' });
  } catch (error) {
    const said = `${error.stdout ?? ''}${error.stderr ?? ''}`.trim() || error.message;
    const last = said.split('\n').slice(-shownLines).join('\n');
    throw new Error(`${failure}:\n${last}`, { cause: error });
  }
}

function git(...args) {
  return execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
