import type { Connection } from '../connection/connection.js';
import { replyCodeOf, replyCodes } from '../connection/errors.js';
import { ConnectionLostError, messageOf, NoRouteError } from '../../core/runtime/errors.js';

/**
 * Checks that an exchange exists before a request is published to it. A publish to a missing exchange
 * closes its channel, and with it the consumer of the replies to all pending requests.
 */
export class ExchangeCheck {
  readonly #connection: Connection;
  readonly #known = new Set<string>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async assertExists(exchange: string): Promise<void> {
    if (this.#known.has(exchange)) return;
    const channel = await (await this.#connection.ready()).createChannel();
    channel.on('error', () => {});
    try {
      await channel.checkExchange(exchange);
    } catch (error) {
      if (replyCodeOf(error) === replyCodes.notFound)
        throw new NoRouteError(`there is no exchange "${exchange}"`);
      throw new ConnectionLostError(messageOf(error), { cause: error });
    }
    this.#known.add(exchange);
    await channel.close();
  }
}
