import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Measured is what users install, so `dist`; it is built first where a source is newer. */
export function buildLibrary() {
  const built = `${root}dist/esm/index.js`;
  if (existsSync(built) && statSync(built).mtimeMs >= newestSource()) return;
  console.log('dist is older than lib: building it');
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
}

function newestSource() {
  const files = readdirSync(`${root}lib`, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  );
  return Math.max(...files.map((file) => statSync(`${root}lib/${file}`).mtimeMs));
}
