import { Injectable } from '@nestjs/common';
import type { ConnectionState } from '../core/port/connection-state.js';
import type { CounterName } from '../core/runtime/counters.js';
import { StorkServer } from './server/stork.server.js';
import { TransportRegistry } from './bootstrap/transport-registry.js';

/** What one transport is doing now. @publicApi */
export interface TransportState {
  readonly connection: ConnectionState;
  /** Messages taken and not settled. */
  readonly inFlight: number;
  /** Requests sent and not answered. */
  readonly pendingRequests: number;
  /** What has happened to messages since the start of the process; a count of 0 is absent. */
  readonly counts: Readonly<Partial<Record<CounterName, number>>>;
}

/** Runtime control over the transports of the application. @publicApi */
@Injectable()
export class StorkService {
  readonly #registry: TransportRegistry;
  readonly #server: StorkServer;

  constructor(registry: TransportRegistry, server: StorkServer) {
    this.#registry = registry;
    this.#server = server;
  }

  /** A snapshot by transport. */
  state(): Readonly<Record<string, TransportState>> {
    return Object.fromEntries(
      [...this.#registry.all()].map(([name, transport]) => [
        name,
        {
          connection: transport.state,
          inFlight: transport.inFlight,
          pendingRequests: transport.pendingRequests,
          counts: transport.counters.snapshot(),
        },
      ]),
    );
  }

  /**
   * Stops consuming for good, on every transport: no new messages, handlers at work get `timeoutMs`, then `ctx.signal` aborts and their
   * messages go back. Sending still works. Shutdown does this by itself; call it with `timeoutMs: 0` where there is no time.
   *
   * @param options `timeoutMs` is the module's `drainTimeoutMs` unless given
   */
  async drain(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    await this.#server.drain(options.timeoutMs ?? this.#registry.drainTimeoutMs);
  }
}
