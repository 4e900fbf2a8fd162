import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { KafkaClientError } from '../../../../lib/kafka/client/client.js';
import { brokerConnectionFailure, errorType, toClientError } from '../../../../lib/kafka/kafkajs/errors.js';

/** kafkajs's error classes, of which its index exports only some. */
const errors = createRequire(import.meta.url)('kafkajs/src/errors.js') as Record<
  string,
  new (message: unknown, details?: object) => Error
>;
const { createErrorFromCode } = createRequire(import.meta.url)('kafkajs/src/protocol/error.js') as {
  createErrorFromCode: (code: number) => Error;
};

const retried = (error: Error): Error =>
  new errors['KafkaJSNumberOfRetriesExceeded']!(error, { retryCount: 3, retryTime: 100 });

describe('the failure of a kafkajs error', () => {
  it.each([
    [3, 'unknown-topic', 'UNKNOWN_TOPIC_OR_PARTITION'],
    [10, 'too-large', 'MESSAGE_TOO_LARGE'],
    [7, 'unconfirmed', 'REQUEST_TIMED_OUT'],
    [6, 'unavailable', 'NOT_LEADER_FOR_PARTITION'],
    [19, 'unavailable', 'NOT_ENOUGH_REPLICAS'],
    [20, 'unconfirmed', 'NOT_ENOUGH_REPLICAS_AFTER_APPEND'],
    [23, 'refused', 'INCONSISTENT_GROUP_PROTOCOL'],
    [29, 'refused', 'TOPIC_AUTHORIZATION_FAILED'],
    [30, 'refused', 'GROUP_AUTHORIZATION_FAILED'],
    [33, 'refused', 'UNSUPPORTED_SASL_MECHANISM'],
    [32, 'refused', 'INVALID_TIMESTAMP'],
  ])('code %i is %s', (code, failure, type) => {
    for (const error of [createErrorFromCode(code), retried(createErrorFromCode(code))]) {
      expect(toClientError(error, 'unavailable')).toMatchObject({ failure });
      expect(toClientError(error, 'unavailable').message).toContain(type);
      expect(errorType(error)).toBe(type);
    }
  });

  it.each([
    ['KafkaJSSASLAuthenticationError', 'refused'],
    ['KafkaJSNotImplemented', 'unsupported-codec'],
    ['KafkaJSConnectionError', 'unavailable'],
    ['KafkaJSConnectionClosedError', 'unconfirmed'],
    ['KafkaJSRequestTimeoutError', 'unconfirmed'],
  ])('%s is %s', (name, failure) => {
    expect(toClientError(retried(new errors[name]!('it', {})), 'too-large').failure).toBe(failure);
  });

  it('is the given default for any other thrown value', () => {
    const circular = new Error('round');
    circular.cause = circular;
    for (const thrown of [new Error('it'), circular, 'it', null, undefined, 7, { type: 5, name: 5 }]) {
      expect(toClientError(thrown, 'unconfirmed')).toMatchObject({ failure: 'unconfirmed', cause: thrown });
      expect(errorType(thrown)).toBeUndefined();
      expect(brokerConnectionFailure(thrown)).toBeUndefined();
    }
  });

  it('is kept where the error is a KafkaClientError already', () => {
    const error = new KafkaClientError('refused', 'no');
    expect(toClientError(error, 'unavailable')).toBe(error);
  });
});

it('connectionTrouble returns the address of the broker, and whether it closed the connection', () => {
  const refused = new errors['KafkaJSConnectionError']!('no', { broker: 'h:1' });
  expect(brokerConnectionFailure(retried(refused))).toEqual({ address: 'h:1', isClosed: false });
  const closed = new errors['KafkaJSConnectionClosedError']!('closed', { host: 'h', port: 2 });
  const clientError = toClientError(retried(closed), 'unavailable');
  expect(brokerConnectionFailure(clientError)).toEqual({ address: 'h:2', isClosed: true });
});
