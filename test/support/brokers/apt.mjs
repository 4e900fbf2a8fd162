import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { run } from './processes.mjs';

const apt = ['-o', 'DPkg::Lock::Timeout=300', '-q'];
const policy = '/usr/sbin/policy-rc.d';

/** Whether packages can be installed here: Debian or a child of it, as root. */
export function canInstall() {
  return existsSync('/etc/debian_version') && process.getuid?.() === 0;
}

/**
 * Installs those that are missing, without starting any service of theirs.
 * @param {readonly string[]} packages
 */
export async function install(packages) {
  /** @type {string[]} */
  const missing = [];
  for (const name of packages) if (!(await installedVersion(name))) missing.push(name);
  if (missing.length === 0) return;
  process.stderr.write(`installing ${missing.join(', ')}\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await updateOnce();
  await withoutServices(async () => {
    await run('apt-get', [...apt, 'install', '--no-install-recommends', '-y', ...missing], { env });
  });
}

/** @type {Promise<string> | undefined} */
let updated;

/** What apt knows may be old, or nothing at all. */
function updateOnce() {
  updated ??= run('apt-get', [...apt, 'update']);
  return updated;
}

/**
 * @param {string} name
 * @returns {Promise<string | undefined>}
 */
export async function installedVersion(name) {
  const args = ['-W', '-f', '${db:Status-Status} ${Version}', name];
  const [status, version] = (await run('dpkg-query', args).catch(() => '')).split(' ');
  return status === 'installed' ? version : undefined;
}

/** @type {Map<string, Promise<string | undefined>>} */
const available = new Map();

/**
 * The version that is installed or would be, without what Debian adds to it.
 * @param {string} name
 * @returns {Promise<string | undefined>}
 */
export function availableVersion(name) {
  const version = available.get(name) ?? readAvailableVersion(name);
  available.set(name, version);
  return version;
}

/** @param {string} name */
async function readAvailableVersion(name) {
  const found = (await installedVersion(name)) ?? (await candidate(name));
  if (found || !canInstall()) return upstream(found);
  await updateOnce();
  return upstream(await candidate(name));
}

/** @param {string} name */
async function candidate(name) {
  const text = await run('apt-cache', ['policy', name]).catch(() => '');
  return /Candidate: (\d\S*)/.exec(text)?.[1];
}

/** @param {string | undefined} version */
function upstream(version) {
  return /^(?:\d+:)?(\d+(?:\.\d+)*)/.exec(version ?? '')?.[1];
}

/**
 * A package's service would start with its installation, on every interface and on the port that is wanted here. Debian's way to
 * forbid that is a policy file; one that was there already is left alone.
 * @param {() => Promise<void>} work
 */
async function withoutServices(work) {
  if (existsSync(policy)) return work();
  // An interrupt reaches apt-get too, which ends by it: this process has to live on and take the file away.
  const wait = () => {};
  process.on('SIGINT', wait).on('SIGTERM', wait);
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    await work();
  } finally {
    rmSync(policy, { force: true });
    process.off('SIGINT', wait).off('SIGTERM', wait);
  }
}

/**
 * The mirror from which apt gets Debian itself, read from its own settings.
 * @returns {string | undefined}
 */
export function debianMirror() {
  const folder = '/etc/apt/sources.list.d';
  const names = existsSync(folder) ? readdirSync(folder) : [];
  const files = ['/etc/apt/sources.list', ...names.toSorted().map((name) => `${folder}/${name}`)];
  const release = readFileSync('/etc/os-release', 'utf8');
  const codename = /^VERSION_CODENAME=(\S+)$/m.exec(release)?.[1];
  const isDebian = /^ID=debian$/m.test(release);
  if (!isDebian || !codename) return undefined;
  return files
    .filter((file) => existsSync(file))
    .map((file) => mirrorIn(readFileSync(file, 'utf8'), codename))
    .find((mirror) => mirror !== undefined);
}

/**
 * The first address in one file of sources that has the main part of that release. Both of apt's formats are understood: a line
 * each, and paragraphs of fields.
 * @param {string} text
 * @param {string} codename
 * @returns {string | undefined}
 */
export function mirrorIn(text, codename) {
  const lines = text.split('\n').filter((line) => !line.trimStart().startsWith('#'));
  for (const line of lines) {
    const [, uri, suite, components = ''] = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    if (uri && isMain(uri, [suite ?? ''], components.split(/\s+/), codename)) return uri;
  }
  for (const paragraph of lines.join('\n').split(/\n\s*\n/)) {
    /** @param {string} name */
    const field = (name) => {
      const value = new RegExp(`^${name}:[ \\t]*(.*(?:\\n[ \\t]+.*)*)`, 'im').exec(paragraph)?.[1] ?? '';
      return value.split(/\s+/).filter(Boolean);
    };
    const isBinary = field('Types').includes('deb') && field('Enabled')[0]?.toLowerCase() !== 'no';
    const uri = field('URIs').find((each) => isMain(each, field('Suites'), field('Components'), codename));
    if (isBinary && uri) return uri;
  }
  return undefined;
}

/**
 * @param {string} uri
 * @param {readonly string[]} suites
 * @param {readonly string[]} components
 * @param {string} codename
 */
function isMain(uri, suites, components, codename) {
  const isUsable = /^(?:https?|file):/.test(uri);
  return isUsable && suites.includes(codename) && components.includes('main');
}
