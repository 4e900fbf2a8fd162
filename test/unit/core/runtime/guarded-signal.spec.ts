import { addAbortListener } from 'node:events';
import { expect, it } from 'vitest';
import { guardListeners } from '../../../../lib/core/runtime/guarded-signal.js';
import { collectGarbage } from '../harness.js';

function newSignal() {
  const controller = new AbortController();
  const errors: unknown[] = [];
  guardListeners(controller.signal, (error) => errors.push(error));
  return { controller, signal: controller.signal, errors };
}

it('calls listeners with the event and the signal as `this`, once each, and not those that were removed', () => {
  const { controller, signal, errors } = newSignal();
  const calls: unknown[] = [];
  const listener = function (this: unknown, { type }: Event): void {
    calls.push([type, this === signal]);
  };
  const removed = (): void => void calls.push('removed');
  signal.addEventListener('abort', listener);
  signal.addEventListener('abort', listener);
  signal.addEventListener('abort', { handleEvent: () => calls.push('object') });
  signal.addEventListener('abort', removed);
  signal.removeEventListener('abort', removed);
  addAbortListener(signal, () => calls.push('of Node'));
  controller.abort();
  expect([calls, errors]).toEqual([[['abort', true], 'object', 'of Node'], []]);
});

it('ignores null, as a signal does', () => {
  const { controller, signal, errors } = newSignal();
  signal.addEventListener('abort', null as never);
  controller.abort();
  expect(errors).toEqual([]);
});

it('keeps `onabort` apart from a listener that is the same function', () => {
  const { controller, signal } = newSignal();
  let calls = 0;
  const listener = (): void => void calls++;
  // oxlint-disable unicorn/prefer-add-event-listener -- its setter is tested
  signal.onabort = listener;
  signal.addEventListener('abort', listener);
  signal.onabort = null;
  expect(signal.onabort).toBeNull();
  signal.onabort = listener;
  // oxlint-enable unicorn/prefer-add-event-listener
  expect(signal.onabort).toBe(listener);
  controller.abort();
  expect(calls).toBe(2);
});

it('does not keep a listener that was removed', async () => {
  const { signal } = newSignal();
  const addAndRemove = (): WeakRef<() => void> => {
    const listener = (): void => {};
    signal.addEventListener('abort', listener);
    signal.removeEventListener('abort', listener);
    return new WeakRef(listener);
  };
  const removed = addAndRemove();
  await collectGarbage();
  expect(removed.deref()).toBeUndefined();
  expect(signal.aborted).toBe(false);
});
