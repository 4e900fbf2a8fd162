/** A signal that counts its listeners. */
export function newCountedSignal() {
  const controller = new AbortController();
  const { signal } = controller;
  const added = new Set<unknown>();
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>): void => {
    added.add(args[1]);
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>): void => {
    added.delete(args[1]);
    remove(...args);
  };
  return { controller, signal, listeners: () => added.size };
}
