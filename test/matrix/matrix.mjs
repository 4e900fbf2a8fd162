/**
 * Installs the packed library in throw-away applications and runs them. The library must have been built.
 *
 *     npm run test:matrix                         every row
 *     npm run test:matrix -- --row 'nest-11'      the rows whose names contain the text
 *     npm run test:matrix -- --keep               leaves the applications where they are
 */
import { parseArgs } from 'node:util';
import { cases } from './cases.mjs';
import { Workspace } from './workspace.mjs';

const { values } = parseArgs({
  options: { row: { type: 'string', multiple: true }, keep: { type: 'boolean', default: false } },
});
const chosen = cases.filter(({ name }) => values.row?.some((text) => name.includes(text)) ?? true);
if (chosen.length === 0)
  throw new Error(`no such row; there are\n${cases.map(({ name }) => name).join('\n')}`);

const workspace = await Workspace.create();
try {
  const results = [];
  for (const each of chosen) results.push(await runCase(each));
  console.table(results);
  process.exitCode = results.every(({ result }) => result === 'passed') ? 0 : 1;
} finally {
  if (values.keep) console.log(workspace.folder);
  else await workspace.remove();
}

/** @param {import('./cases.mjs').Case} each */
async function runCase({ name, run }) {
  const began = performance.now();
  let result = 'passed';
  try {
    await run(workspace);
  } catch (error) {
    result = 'FAILED';
    console.error(`\n${name}: ${error.message}\n`);
  }
  const seconds = Math.round((performance.now() - began) / 1_000);
  console.log(`${name}: ${result}, ${seconds} s`);
  return { name, result, seconds };
}
