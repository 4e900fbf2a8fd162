// Runs the contract suite: npm run test:contract [-- --rabbitmq 4] [--kafka 3.9] [-- <vitest options>]
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The first of each is the usual one. */
const versions = { rabbitmq: ['3.10', '4'], kafka: ['4.1', '3.9'] };

const args = process.argv.slice(2);
const env = { ...process.env };
for (const [broker, [usual, other]] of Object.entries(versions)) {
  const at = args.indexOf(`--${broker}`);
  if (at < 0) continue;
  const [, version] = args.splice(at, 2);
  if (version !== usual && version !== other) {
    console.error(`--${broker}: expected ${usual} or ${other}, given ${version ?? 'nothing'}`);
    process.exit(2);
  }
  if (version === other) env[`STORK_${broker.toUpperCase()}`] = other;
}
const vitest = ['vitest', 'run', '--config', 'test/vitest.config.ts', 'test/contract', ...args];
const cwd = fileURLToPath(new URL('../../', import.meta.url));
const { status } = spawnSync('npx', vitest, { cwd, env, stdio: 'inherit' });
process.exit(status ?? 1);
