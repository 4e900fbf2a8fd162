/**
 * Calls of the user's `onRetry` and `onDeadLetter`. No message waits for them: a hook that hangs must not
 * occupy a concurrency slot. A shutdown does, so that it does not cut them off.
 */
export class UserHooks {
  readonly #running = new Set<Promise<void>>();

  /** Calls the hook. `onError` gets what it throws, or rejects with. */
  run(hook: () => unknown, onError: (error: unknown) => void): void {
    const call = (async () => void (await hook()))().catch(onError);
    this.#running.add(call);
    void call.then(() => this.#running.delete(call));
  }

  /** Resolves when every hook that has been called has ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }
}
