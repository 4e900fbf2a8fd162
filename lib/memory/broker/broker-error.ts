/** An error for which RabbitMQ closes the channel. `code` is the AMQP reply code: 403, 404 or 406. */
export class BrokerError extends Error {
  override readonly name = 'BrokerError';
  readonly code: 403 | 404 | 406;

  constructor(code: 403 | 404 | 406, message: string) {
    super(`${message} (${code})`);
    this.code = code;
  }
}
