/**
 * Finishes what the compiler wrote to `dist`:
 *
 * - `dist/cjs` is CommonJS, although the package is ESM.
 * - Declarations lose `#private`. It would make the classes of one build differ from those of the other for
 *   TypeScript, although Node loads one build for `import` and for `require()`.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const dist = new URL('../dist/', import.meta.url);
for (const build of ['cjs/', 'esm/']) {
  const folder = new URL(build, dist);
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.d.ts')) continue;
    const file = new URL(name, folder);
    const text = readFileSync(file, 'utf8');
    // The empty line keeps the lines of the declaration map.
    writeFileSync(file, text.replaceAll(/^ +#private;$/gm, ''));
  }
}
writeFileSync(new URL('cjs/package.json', dist), '{ "type": "commonjs" }\n');
