// Runs npm scripts at the same time: node test/support/side-by-side.mjs <script> [<script>…]
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const cwd = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Prints what a script has written when it ends, because lines of several would mix.
 * @param {string} script
 * @returns {Promise<boolean>} whether it succeeded
 */
function run(script) {
  const began = performance.now();
  const child = spawn('npm', ['run', '--silent', script], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      const seconds = ((performance.now() - began) / 1_000).toFixed(1);
      console.log(`${code === 0 ? '✓' : '✗'} npm run ${script} (${seconds} s)`);
      if (output.trim() !== '') console.log(output.trimEnd().replace(/^/gm, '  '));
      resolve(code === 0);
    });
  });
}

const succeeded = await Promise.all(process.argv.slice(2).map(run));
process.exitCode = succeeded.every(Boolean) ? 0 : 1;
