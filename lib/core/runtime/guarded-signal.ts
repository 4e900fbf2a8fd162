import { isThenable } from './with-timeout.js';

type Listener = Parameters<AbortSignal['addEventListener']>[1];
type Options = Parameters<AbortSignal['addEventListener']>[2];

/**
 * Passes what listeners of the signal throw, or reject with, to `onError`. Without it Node would end the
 * process.
 */
export function guardListeners(signal: AbortSignal, onError: (error: unknown) => void): void {
  // Weak: a handler may add and remove a listener for each of its calls of other services.
  const wrappers = new WeakMap<Listener, Listener>();
  const wrap = (listener: Listener): Listener => {
    // The signal ignores null, and refuses what is no listener.
    if (typeof listener !== 'function' && (typeof listener !== 'object' || listener === null))
      return listener;
    const wrapper = wrappers.get(listener) ?? ((event: Event) => callListener(listener, event));
    wrappers.set(listener, wrapper);
    return wrapper;
  };
  const callListener = (listener: Listener, event: Event): void => {
    try {
      const result: unknown =
        typeof listener === 'function' ? listener.call(signal, event) : listener.handleEvent(event);
      if (isThenable(result)) Promise.resolve(result).catch(onError);
    } catch (error) {
      onError(error);
    }
  };
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  let onabort: { readonly listener: Listener; readonly wrapper: (event: Event) => void } | undefined;
  Object.defineProperties(signal, {
    addEventListener: {
      value: (type: string, listener: Listener, options?: Options) => add(type, wrap(listener), options),
    },
    removeEventListener: {
      value: (type: string, listener: Listener, options?: Options) =>
        remove(type, wrappers.get(listener) ?? listener, options),
    },
    onabort: {
      get: () => onabort?.listener ?? null,
      set: (listener: Listener | null) => {
        if (onabort !== undefined) remove('abort', onabort.wrapper);
        onabort = undefined;
        if (typeof listener !== 'function') return;
        // Its own: the same function may be a listener besides.
        onabort = { listener, wrapper: (event) => callListener(listener, event) };
        add('abort', onabort.wrapper);
      },
    },
  });
}
