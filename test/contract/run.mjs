// Runs the contract suite: npm run test:contract [-- --rabbitmq 4] [-- <vitest options>]
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const args = process.argv.slice(2);
const at = args.indexOf('--rabbitmq');
const [, version] = at < 0 ? [] : args.splice(at, 2);
if (at >= 0 && version !== '3.10' && version !== '4') {
  console.error(`--rabbitmq: expected 3.10 or 4, given ${version ?? 'nothing'}`);
  process.exit(2);
}
const env = version === '4' ? { ...process.env, STORK_RABBITMQ: '4' } : process.env;
const vitest = ['vitest', 'run', '--config', 'test/vitest.config.ts', 'test/contract', ...args];
const cwd = fileURLToPath(new URL('../../', import.meta.url));
const { status } = spawnSync('npx', vitest, { cwd, env, stdio: 'inherit' });
process.exit(status ?? 1);
