import { describe, expect, it } from 'vitest';
import { parts } from '../full/parts.mjs';
import { lowestNest, nodes } from '../matrix/rows.mjs';
import { textOf } from './source-files.js';

const manifest = JSON.parse(textOf('package.json')) as {
  readonly engines: { readonly node: string };
  readonly peerDependencies: Readonly<Record<string, string>>;
};
const workflow = textOf('.github/workflows/ci.yml');

describe('the supported versions', () => {
  it('are those of package.json in the README', () => {
    const [, node20, node22, nest] =
      /Node\.js (\S+) or (\S+) and newer; NestJS 11 \(from (\S+)\) or 12;/.exec(textOf('README.md'))!;
    expect(manifest.engines.node).toBe(`^${node20}.0 || >=${node22}.0`);
    for (const name of ['common', 'core', 'microservices'])
      expect(manifest.peerDependencies[`@nestjs/${name}`]).toBe(`^${nest} || ^12.0.0`);
  });

  it('are tested from the lowest of each range', () => {
    const [node20, node22] = nodes.map(({ version }) => version);
    expect(manifest.engines.node).toBe(`^${node20} || >=${node22}`);
    expect(manifest.peerDependencies['@nestjs/core']).toBe(`^${lowestNest} || ^12.0.0`);
  });

  it('are tested in continuous integration: every part of the full run', () => {
    const [, listed] = /part: \[(.+)\]/.exec(workflow)!;
    // The part `usual` is what `npm cit` runs.
    expect(['usual', ...listed!.split(', ')]).toEqual(Object.keys(parts));
  });
});
