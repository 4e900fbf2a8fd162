import { ConnectionStateCell } from '../core/port/connection-state.js';
import { ClientClosedError, ConnectionLostError } from '../core/runtime/errors.js';
import type { MemoryBroker } from './broker/memory-broker.js';
import { keepAlive } from './keep-alive.js';

/** One transport's connection to the in-memory broker: reconnects at once when the broker drops it. */
export class MemoryConnection {
  readonly state = new ConnectionStateCell();
  readonly #broker: MemoryBroker;
  readonly #transport: string;
  readonly #onLost: (error: ConnectionLostError) => void;
  #connection: { close(): void } | undefined;
  #releaseKeepAlive: (() => void) | undefined;

  constructor(broker: MemoryBroker, transport: string, onLost: (error: ConnectionLostError) => void) {
    this.#broker = broker;
    this.#transport = transport;
    this.#onLost = onLost;
  }

  /** Undefined while disconnected. */
  get broker(): MemoryBroker | undefined {
    return this.#connection === undefined ? undefined : this.#broker;
  }

  /** Throws a `ClientClosedError` after `close`, and the broker's error if the broker is closed. */
  open(): void {
    this.assertOpen();
    if (this.#connection !== undefined) return;
    this.#connection = this.#broker.connect(() => this.#lost());
    this.state.move({ value: 'connecting' });
    this.#releaseKeepAlive ??= keepAlive();
    this.state.move({ value: 'ready' });
  }

  close(): void {
    this.#connection?.close();
    this.#releaseKeepAlive?.();
    this.state.move({ value: 'closed' });
  }

  assertOpen(): void {
    if (this.state.current.value !== 'closed') return;
    throw new ClientClosedError(`the transport ${JSON.stringify(this.#transport)} is closed`);
  }

  #lost(): void {
    this.#connection = undefined;
    const error = new ConnectionLostError(
      `${this.#transport}: the connection to the in-memory broker was dropped`,
    );
    this.state.move({ value: 'backoff', attempt: 1, delayMs: 0, error });
    this.#onLost(error);
    // A listener may have closed the transport, or the broker: then the state stays `backoff`.
    if (this.state.current.value !== 'closed' && !this.#broker.isClosed) this.open();
  }
}
