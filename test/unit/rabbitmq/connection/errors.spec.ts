import { describe, expect, it } from 'vitest';
import { ConnectionLostError, StorkConfigError } from '../../../../lib/core/runtime/errors.js';
import {
  addressOf,
  connectError,
  isAuthError,
  replyCodeOf,
} from '../../../../lib/rabbitmq/connection/errors.js';

const url = 'amqp://me:s3cret@broker.example:5672/shop?heartbeat=5';
const coded = (code: unknown, message = ''): Error => Object.assign(new Error(message), { code });

/** What the client says of a refusal: the login's has the code in words, the virtual host's only a raw frame. */
const refusals = [
  coded(403, 'ACCESS_REFUSED'),
  coded(530, 'NOT_ALLOWED'),
  new Error('Handshake terminated by server: 403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - Login"'),
  new Error(
    'Handshake terminated by server: 530 (NOT-ALLOWED) with message "NOT_ALLOWED - vhost no not found"',
  ),
];

describe('errors of the client library', () => {
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

  it.each(refusals)('%s is a refusal', (error) => {
    expect(isAuthError(error)).toBe(true);
    expect(connectError(url, error)).toBeInstanceOf(StorkConfigError);
  });

  it.each([coded(541), coded(320), coded('ECONNREFUSED'), new Error('Heartbeat timeout'), 'closed'])(
    '%s is not',
    (error) => {
      expect(isAuthError(error)).toBe(false);
      expect(connectError(url, error)).toBeInstanceOf(ConnectionLostError);
    },
  );

  it('name the address, and neither password nor parameters', () => {
    expect(addressOf(url)).toBe('amqp://***@broker.example:5672/shop');
    expect(addressOf('amqp://me:p@ss/w?rd@host/v')).not.toMatch(/p@ss|rd/);
    const { message } = connectError(url, new Error(`cannot parse ${url}`));
    expect(message).not.toContain('s3cret');
    expect(message).toContain('broker.example:5672');
  });

  it('have something to say when the error has not', () => {
    expect(connectError(url, new AggregateError([], '')).message).toMatch(/: no answer$/);
    expect(connectError(url, coded('ECONNREFUSED')).message).toMatch(/ECONNREFUSED$/);
  });
});
