import { Logger } from '@nestjs/common';
import { distinctUntilChanged, type Observable } from 'rxjs';
import type { ConnectionState } from '../../core/port/connection-state.js';
import { messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';

/**
 * Events of `app.on()` of a microservice and of `client.on()`, by name. The last argument is the transport's
 * name. A listener gets what happens after it was added.
 *
 * @publicApi
 */
// oxlint-disable-next-line typescript/consistent-type-definitions -- Nest requires an index signature
export type StorkEvents = {
  /** The transport has connected, for the first time or again. */
  connect: (transport: string) => void;
  /** The connection was lost, or closed by the application: `error` is undefined then. */
  disconnect: (error: Error | undefined, transport: string) => void;
  /** The connection was lost, or an attempt to connect has failed. Another attempt follows. */
  error: (error: Error, transport: string) => void;
  /** RabbitMQ accepts no messages for now, e.g. because its disk is full. */
  blocked: (why: { readonly reason: string }, transport: string) => void;
  /** RabbitMQ accepts messages again. */
  unblocked: (transport: string) => void;
};

const eventNames: readonly string[] = [
  'connect',
  'disconnect',
  'error',
  'blocked',
  'unblocked',
] satisfies (keyof StorkEvents)[];

type Listener = (...args: readonly unknown[]) => unknown;

/** Makes events of the connection states of transports. */
export class ConnectionEvents {
  readonly #listeners = new Map<string, Listener[]>();
  readonly #logger = new Logger('Stork');

  /** @throws StorkConfigError for an unknown event, and for a listener that is not a function */
  on(event: unknown, listener: unknown): void {
    if (!eventNames.includes(event as string))
      throw new StorkConfigError([
        { name: 'on()', expected: `one of ${eventNames.join(', ')}`, given: printable(event) },
      ]);
    if (typeof listener !== 'function') {
      const name = `on('${event as string}')`;
      throw new StorkConfigError([{ name, expected: 'a function', given: printable(listener) }]);
    }
    const listeners = this.#listeners.get(event as string) ?? [];
    this.#listeners.set(event as string, [...listeners, listener as Listener]);
  }

  follow(transport: string, states: Observable<ConnectionState>): void {
    let link: 'down' | 'up' | 'blocked' = 'down';
    states.pipe(distinctUntilChanged()).subscribe((state) => {
      const before = link;
      if (state.value === 'ready' || state.value === 'blocked') {
        link = state.value === 'ready' ? 'up' : 'blocked';
        if (before === 'down') this.#emit('connect', transport);
        if (state.value === 'blocked') this.#emit('blocked', { reason: state.reason }, transport);
        else if (before === 'blocked') this.#emit('unblocked', transport);
      }
      if (state.value === 'backoff' || state.value === 'closed') {
        link = 'down';
        const error = state.value === 'backoff' ? state.error : undefined;
        if (before !== 'down') this.#emit('disconnect', error, transport);
        if (error !== undefined) this.#emit('error', error, transport);
      }
    });
  }

  /** RxJS would rethrow an exception of a listener asynchronously, which ends the process. */
  #emit<E extends keyof StorkEvents>(event: E, ...args: Parameters<StorkEvents[E]>): void {
    for (const listener of this.#listeners.get(event) ?? [])
      (async () => listener(...args))().catch((error: unknown) =>
        this.#logger.error(`a listener of '${event}' failed: ${messageOf(error)}`),
      );
  }
}
