var __decorate =
  (this && this.__decorate) ||
  function (decorators, target, key, desc) {
    var c = arguments.length,
      r = c < 3 ? target : desc === null ? (desc = Object.getOwnPropertyDescriptor(target, key)) : desc,
      d;
    if (typeof Reflect === 'object' && typeof Reflect.decorate === 'function')
      r = Reflect.decorate(decorators, target, key, desc);
    else
      for (var i = decorators.length - 1; i >= 0; i--)
        if ((d = decorators[i])) r = (c < 3 ? d(r) : c > 3 ? d(target, key, r) : d(target, key)) || r;
    return (c > 3 && r && Object.defineProperty(target, key, r), r);
  };
var __metadata =
  (this && this.__metadata) ||
  function (k, v) {
    if (typeof Reflect === 'object' && typeof Reflect.metadata === 'function') return Reflect.metadata(k, v);
  };
import { Injectable } from '@nestjs/common';
import { StorkServer } from './server.js';
import { TransportRegistry } from './transport-registry.js';
/** Runtime control over the transports of the application. @publicApi */
let StorkService = class StorkService {
  #registry;
  #server;
  constructor(registry, server) {
    this.#registry = registry;
    this.#server = server;
  }
  /** A snapshot by transport. */
  state() {
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
  async drain(options = {}) {
    await this.#server.drain(options.timeoutMs ?? this.#registry.drainTimeoutMs);
  }
};
StorkService = __decorate(
  [Injectable(), __metadata('design:paramtypes', [TransportRegistry, StorkServer])],
  StorkService,
);
export { StorkService };
