import { BehaviorSubject, type Observable } from 'rxjs';

/** What a transport's connection is doing. Data exists only in the state that owns it. @publicApi */
export type ConnectionState =
  | { readonly value: 'idle' }
  | { readonly value: 'connecting' }
  | { readonly value: 'ready' }
  /** The broker takes nothing for now, e.g. because its disk is full. */
  | { readonly value: 'blocked'; readonly reason: string }
  | { readonly value: 'backoff'; readonly attempt: number; readonly delayMs: number; readonly error: Error }
  | { readonly value: 'closed' };

/** Holds the current state and tells who listens. Only the driver that owns it moves it; `closed` is final. */
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
