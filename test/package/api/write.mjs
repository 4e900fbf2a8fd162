import { entryPoints, reportApi } from './report.mjs';

for (const entryPoint of entryPoints) {
  const isUnchanged = reportApi(entryPoint, { write: true });
  console.log(`${entryPoint}.api.md: ${isUnchanged ? 'unchanged' : 'written'}`);
}
