import { describe, expect, it } from 'vitest';
import { ConnectionLostError, StorkConfigError } from '../../../../lib/core/runtime/errors.js';
import { connectError, isAuthError, replyCodeOf } from '../../../../lib/rabbitmq/connection/errors.js';

const url = 'amqp://me:s3cret@broker.example:5672/shop?heartbeat=5';
const coded = (code: unknown, message = ''): Error => Object.assign(new Error(message), { code });

/** amqplib reports the reply code as a field, or in the message text only. */
const authErrors = [
  coded(403, 'ACCESS_REFUSED'),
  coded(530, 'NOT_ALLOWED'),
  new Error('Handshake terminated by server: 403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - Login"'),
  new Error(
    'Handshake terminated by server: 530 (NOT-ALLOWED) with message "NOT_ALLOWED - vhost no not found"',
  ),
];

describe('errors of amqplib', () => {
  it.each([
    [coded(404), 404],
    [coded('ECONNREFUSED', 'connect ECONNREFUSED'), undefined],
    [new Error('Channel closed by server: 406 (PRECONDITION-FAILED) with message "x"'), 406],
    [new Error('Operation failed: QueueDeclare; 405 (RESOURCE-LOCKED) with message "x"'), 405],
    [new Error('port 5672 (tcp)'), undefined],
    [undefined, undefined],
    [null, undefined],
    ['541 (INTERNAL-ERROR)', 541],
  ])('%s has the code %s', (error, code) => {
    expect(replyCodeOf(error)).toBe(code);
  });

  it.each(authErrors)('%s is an authentication error', (error) => {
    expect(isAuthError(error)).toBe(true);
    expect(connectError(url, error)).toBeInstanceOf(StorkConfigError);
  });

  it.each([coded(541), coded(320), coded('ECONNREFUSED'), new Error('Heartbeat timeout'), 'closed'])(
    '%s is a lost connection',
    (error) => {
      expect(isAuthError(error)).toBe(false);
      expect(connectError(url, error)).toBeInstanceOf(ConnectionLostError);
    },
  );

  it('contain the address without password and query parameters', () => {
    const { message } = connectError(url, new Error(`cannot parse ${url}`));
    expect(message).not.toContain('s3cret');
    expect(message).toContain('RabbitMQ at amqp://broker.example:5672/shop: ');
  });

  it('contain the code of an error without a message, else "no answer"', () => {
    expect(connectError(url, new AggregateError([], '')).message).toMatch(/: no answer$/);
    expect(connectError(url, coded('ECONNREFUSED')).message).toMatch(/ECONNREFUSED$/);
  });
});
