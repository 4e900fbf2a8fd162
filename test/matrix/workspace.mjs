import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensure, stop } from '../support/brokers/index.mjs';
import { instanceOf } from '../support/brokers/instances.mjs';
import { isListening } from '../support/brokers/ports.mjs';
import { compile, install, packLibrary } from './project.mjs';

/** @typedef {import('./rows.mjs').Row} Row */
/** @typedef {import('./rows.mjs').Stack} Stack */

/** The temporary folder of a run, and what is made in it once for all cases that need it. */
export class Workspace {
  /** @type {string} */
  folder;
  /** @type {string} */
  tarball;
  #made = new Map();
  #copies = 0;
  #startedRabbitMq = false;

  static async create() {
    const workspace = new Workspace();
    // Outside this checkout, so that Node cannot find a missing package in the checkout's `node_modules`.
    workspace.folder = await mkdtemp(join(tmpdir(), 'stork-matrix-'));
    try {
      workspace.tarball = await packLibrary(workspace.folder);
      return workspace;
    } catch (error) {
      await workspace.remove();
      throw error;
    }
  }

  /** @param {Stack} stack */
  folderOf(stack) {
    return join(this.folder, stack.name);
  }

  /**
   * @param {Stack} stack
   * @returns {Promise<string>} its folder
   */
  installed(stack) {
    return this.#once(stack, async () => {
      await install(this.folderOf(stack), this.tarball, stack.packages);
      return this.folderOf(stack);
    });
  }

  /**
   * @param {Row} row
   * @returns {Promise<string>} the folder of its compiled application
   */
  compiled(row) {
    return this.#once(row, async () => compile(row, await this.installed(row.stack)));
  }

  /**
   * @param {Row} row
   * @returns {Promise<string>} the folder of a copy of its compiled application
   */
  async copyOf(row) {
    const folder = await this.compiled(row);
    const copy = `${folder}-${++this.#copies}`;
    await cp(folder, copy, { recursive: true });
    return copy;
  }

  /** @returns {Promise<string>} its URL */
  rabbitMq() {
    return this.#once('rabbitmq', async () => {
      this.#startedRabbitMq = !(await isListening(instanceOf('rabbitmq', {}).port));
      const { rabbitmq } = await ensure(['rabbitmq']);
      return rabbitmq.url;
    });
  }

  async remove() {
    if (this.#startedRabbitMq) await stop('rabbitmq');
    await rm(this.folder, { recursive: true, force: true });
  }

  #once(key, make) {
    if (!this.#made.has(key)) this.#made.set(key, make());
    return this.#made.get(key);
  }
}
