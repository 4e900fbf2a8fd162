import { isThenable } from './with-timeout.js';

type Listener = Parameters<AbortSignal['addEventListener']>[1];
type Options = Parameters<AbortSignal['addEventListener']>[2];

/**
 * Passes what listeners of the signal throw, or reject with, to `onError`. Without it Node would end the
 * process.
 */
export function guardListeners(signal: AbortSignal, onError: (error: unknown) => void): void {
  const wrappers = new Map<Listener, (event: Event) => void>();
  const wrap = (listener: Listener): ((event: Event) => void) => {
    const wrapper = wrappers.get(listener) ?? ((event) => callListener(listener, event));
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
  let onabort: Listener | null = null;
  Object.defineProperties(signal, {
    addEventListener: {
      value: (type: string, listener: Listener, options?: Options) => add(type, wrap(listener), options),
    },
    removeEventListener: {
      value: (type: string, listener: Listener, options?: Options) =>
        remove(type, wrappers.get(listener) ?? listener, options),
    },
    onabort: {
      get: () => onabort,
      set: (listener: Listener | null) => {
        if (onabort !== null) remove('abort', wrap(onabort));
        onabort = typeof listener === 'function' ? listener : null;
        if (onabort !== null) add('abort', wrap(onabort));
      },
    },
  });
}
