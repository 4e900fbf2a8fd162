import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * Starts a program in a process of its own and waits until it has written its first line and ended.
 *
 * @param {URL} program
 * @param {readonly string[]} args
 * @returns {Promise<number>} milliseconds from the start of the process to the line
 */
export function timeToFirstLine(program, args = []) {
  const began = performance.now();
  const child = spawn(process.execPath, [fileURLToPath(program), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  let elapsed;
  child.stdout.once('data', () => {
    elapsed = performance.now() - began;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0 && elapsed !== undefined) resolve(elapsed);
      else reject(new Error(`${program.pathname} ended with ${signal ?? code}`));
    });
  });
}
