import { BehaviorSubject, type Observable } from 'rxjs';
import { messageOf } from '../runtime/errors.js';

/** State of a transport's connection. @publicApi */
export type ConnectionState =
  | { readonly value: 'idle' }
  | { readonly value: 'connecting' }
  | { readonly value: 'ready' }
  /** The broker accepts no messages for now, e.g. because its disk is full. */
  | { readonly value: 'blocked'; readonly reason: string }
  | { readonly value: 'backoff'; readonly attempt: number; readonly delayMs: number; readonly error: Error }
  | { readonly value: 'closed' };

/**
 * The current connection state, with its changes as an observable. Only the driver changes it. `closed` is
 * final.
 */
export class ConnectionStateCell {
  readonly #states = new BehaviorSubject<ConnectionState>({ value: 'idle' });

  get current(): ConnectionState {
    return this.#states.value;
  }

  get changes(): Observable<ConnectionState> {
    return this.#states.asObservable();
  }

  move(next: ConnectionState): void {
    if (this.current.value === 'closed') return;
    this.#states.next(next);
    if (next.value === 'closed') this.#states.complete();
  }
}

const severity: Record<ConnectionState['value'], number> = {
  idle: 0,
  ready: 1,
  connecting: 2,
  blocked: 3,
  backoff: 4,
  closed: 5,
};

/** Why messages may have to wait, for error texts; undefined if the state tells no reason. */
export function outageOf(state: ConnectionState): string | undefined {
  switch (state.value) {
    case 'idle':
    case 'ready':
      return undefined;
    case 'connecting':
      return 'the transport is connecting';
    case 'blocked':
      return `the broker blocks publishers: ${state.reason}`;
    case 'backoff':
      return `the transport is reconnecting: ${messageOf(state.error)}`;
    case 'closed':
      return 'the transport is closed';
  }
}

/**
 * The most severe state among the connections of one transport. Connections that were never opened do not
 * count.
 */
export function worstState(states: readonly ConnectionState[]): ConnectionState | undefined {
  return states
    .filter(({ value }) => value !== 'idle')
    .toSorted((a, b) => severity[b.value] - severity[a.value])[0];
}
