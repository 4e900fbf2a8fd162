import { Injectable } from '@nestjs/common';
import type { ConnectionState } from '../core/port/connection-state.js';
import type { CounterName } from '../core/runtime/reporting.js';
import { StorkServer } from './server/stork.server.js';
import { TransportRegistry } from './bootstrap/transport-registry.js';

/** State of one transport. @publicApi */
export interface TransportState {
  /** State of the broker connection. */
  readonly connection: ConnectionState;
  /** The transport's `required` option. */
  readonly required: boolean;
  /**
   * Whether the transport has connected, declared its sources and begun to consume. False before the
   * application has started and bootstrapped, and with `required: false` until the broker is there. A later
   * loss of the connection shows in `connection` alone.
   */
  readonly started: boolean;
  /** With `required: false`: why the last attempt to start has failed. Undefined once it has started. */
  readonly startError: Error | undefined;
  /** Messages received and not yet settled, those that wait included. */
  readonly inFlight: number;
  /** Requests that wait for their reply. */
  readonly pendingRequests: number;
  /** Counters since the start of the process; counters at 0 are absent. */
  readonly counts: Readonly<Partial<Record<CounterName, number>>>;
}

/** State and control of the application's transports at runtime. @publicApi */
@Injectable()
export class StorkService {
  readonly #registry: TransportRegistry;
  readonly #server: StorkServer;

  constructor(registry: TransportRegistry, server: StorkServer) {
    this.#registry = registry;
    this.#server = server;
  }

  /** Returns a snapshot of the state of each transport, by name. */
  state(): Readonly<Record<string, TransportState>> {
    return Object.fromEntries(
      [...this.#registry.all()].map(([name, transport]) => [
        name,
        {
          connection: transport.state,
          ...this.#server.startOf(name),
          inFlight: transport.inFlight,
          pendingRequests: transport.pendingRequests,
          counts: transport.counters.snapshot(),
        },
      ]),
    );
  }

  /**
   * Stops consuming on every transport; it cannot be resumed. Running handlers get `timeoutMs` to finish;
   * then `ctx.signal` aborts and their messages are requeued. Sending still works. The application's
   * shutdown drains by itself; a call during it can only shorten it. Resolves when the handlers have ended or
   * the time limit has passed, and the sources are left, which may take 5 seconds more.
   *
   * @param options `timeoutMs` in milliseconds, 0 to stop at once; defaults to the module's
   * `drainTimeoutMs`
   */
  async drain(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    await this.#server.drain(options.timeoutMs ?? this.#registry.drainTimeoutMs);
  }
}
