import type { StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError, messageOf, NoRouteError } from '../../core/runtime/errors.js';
import type { Connection } from '../connection/connection.js';
import { replyCodeOf, replyCodes } from '../connection/errors.js';
import { onOwnChannel } from '../connection/own-channel.js';

/**
 * Checks that an exchange exists before a request is published to it. A publish to a missing exchange
 * closes its channel, and with it the consumer of the replies to all pending requests.
 */
export class ExchangeCheck {
  readonly #connection: Connection;
  readonly #clock: StorkClock;
  /** Concurrent first requests share one question: a connection has a limited number of channels. */
  readonly #checks = new Map<string, Promise<void>>();

  constructor(connection: Connection, clock: StorkClock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  assertExists(exchange: string): Promise<void> {
    const known = this.#checks.get(exchange);
    if (known !== undefined) return known;
    const check = this.#check(exchange).catch((error: unknown) => {
      this.#checks.delete(exchange);
      throw error;
    });
    this.#checks.set(exchange, check);
    return check;
  }

  async #check(exchange: string): Promise<void> {
    const model = await this.#connection.ready();
    try {
      await onOwnChannel(model, this.#clock, (channel) => channel.checkExchange(exchange));
    } catch (error) {
      if (replyCodeOf(error) === replyCodes.notFound)
        throw new NoRouteError(`there is no exchange "${exchange}"`);
      throw new ConnectionLostError(messageOf(error), { cause: error });
    }
  }
}
