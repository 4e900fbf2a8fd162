import { applications, runApplication } from './applications.mjs';
import { edgeCases, runEdgeCase } from './edge-cases.mjs';
import { runApp } from './project.mjs';
import { rows } from './rows.mjs';

/**
 * @typedef {object} Case
 * @property {string} name
 * @property {(workspace: import('./workspace.mjs').Workspace) => Promise<void>} run
 */

/** @type {readonly Case[]} */
export const cases = [
  ...rows.map((row) => ({
    name: row.name,
    run: async (workspace) => runApp(row, await workspace.compiled(row)),
  })),
  ...edgeCases.map((edgeCase) => ({
    name: edgeCase.name,
    run: (workspace) => runEdgeCase(edgeCase, workspace),
  })),
  ...applications.map((application) => ({
    name: application.name,
    run: (workspace) => runApplication(application, workspace),
  })),
];
