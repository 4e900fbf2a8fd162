import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const roundTimeoutMs = 120_000;
const closeTimeoutMs = 20_000;

/**
 * One contender for all rounds of a row, in a process of its own: heaps do not mix, its code is as warm as in
 * a long-running server, and the start of a process and of Nest is paid once. Between its rounds it holds
 * idle sockets at most.
 */
export class Subject {
  #row;
  #child;
  #ended;

  /** `file` is the URL of the subject's module; `profile` a folder that gets a CPU profile of its process. */
  static async open(row, { name, file, profile }, address) {
    const subject = new Subject(row, name, profile);
    const { messages, inFlight, partitions } = row;
    try {
      await subject.#ask({ open: { ...address, messages, inFlight, partitions, file } });
    } catch (error) {
      await subject.close().catch(() => {});
      throw error;
    }
    return subject;
  }

  constructor(row, name, profile) {
    this.name = name;
    this.#row = row;
    const profiling = profile !== undefined ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : [];
    this.#child = fork(fileURLToPath(new URL('child.mjs', import.meta.url)), [], {
      execArgv: ['--expose-gc', ...profiling],
      // With NODE_ENV=test kafkajs uses other retry settings; the other variable silences its partitioner
      // warning.
      env: { ...process.env, NODE_ENV: 'production', KAFKAJS_NO_PARTITIONER_WARNING: '1' },
    });
    this.#ended = new Promise((resolve) => void this.#child.once('exit', resolve));
  }

  /** Milliseconds; rejects if the counts of the round do not add up. */
  round() {
    return this.#ask({ round: true });
  }

  /** Lets the subject delete its queues and end; rejects if it leaves unexpected messages. */
  async close() {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), closeTimeoutMs);
    try {
      await this.#ask({ close: true });
    } finally {
      if (this.#child.connected) this.#child.disconnect();
      await this.#ended;
      clearTimeout(timer);
    }
  }

  #ask(order) {
    if (!this.#child.connected) return Promise.reject(new Error(`${this.name}: its process is gone`));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => fail(`no end within ${roundTimeoutMs} ms`), roundTimeoutMs);
      const settle = () => {
        clearTimeout(timer);
        this.#child.off('message', answered).off('exit', exited);
      };
      const fail = (why) => {
        settle();
        reject(new Error(`${this.#row.name}, ${this.name}: ${why}`));
      };
      const answered = ({ error, result }) => {
        if (error !== undefined) return fail(error);
        settle();
        resolve(result);
      };
      const exited = (code, signal) => fail(`its process ended (${signal ?? code})`);
      this.#child.on('message', answered).on('exit', exited);
      this.#child.send(order, (error) => error && fail(error.message));
    });
  }
}
