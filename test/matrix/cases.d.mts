import type { Workspace } from './workspace.mjs';

export declare const cases: readonly {
  readonly name: string;
  readonly run: (workspace: Workspace) => Promise<void>;
}[];
