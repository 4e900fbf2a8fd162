import { afterAll, beforeAll, expect, it } from 'vitest';
import { cases } from '../matrix/cases.mjs';
import { Workspace } from '../matrix/workspace.mjs';

// `npm run test:matrix` runs every row; these two differ most from the versions that the other tests use.
const names = ['nest-11-lowest: commonjs, node10', 'nest-11: Jest 30'];

let workspace: Workspace | undefined;
beforeAll(async () => {
  workspace = await Workspace.create();
}, 60_000);
afterAll(() => workspace?.remove());

it.each(names)(
  'the packed library works in %s',
  async (name) => {
    const chosen = cases.find((each) => each.name === name);
    expect(chosen).toBeDefined();
    await chosen!.run(workspace!);
  },
  300_000,
);
