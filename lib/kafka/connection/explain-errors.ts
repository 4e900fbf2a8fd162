import { ConnectionLostError, messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import { KafkaClientError } from '../client/client.js';
import { brokerConnectionFailure, errorType } from '../kafkajs/errors.js';
import type { KafkaOptions } from '../options/options.js';

// kafkajs's connection errors name an address but not the cause. These messages say what to change. A
// `StorkConfigError` means that a retry cannot help.

export function explainConnectError(error: unknown, options: KafkaOptions, name: string): Error {
  if (error instanceof StorkConfigError) return error;
  if (error instanceof KafkaClientError && error.failure === 'refused') {
    return new StorkConfigError(`${name}: the brokers refused the connection: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const { brokers = [], sasl } = options;
  const { address, isClosed } = brokerConnectionFailure(error) ?? {};
  if (address !== undefined && !brokers.includes(address)) {
    const unreachable = [`${address} (${messageOf(error)})`];
    return new KafkaClientError('unavailable', unreachableAdvertisedText(unreachable, options));
  }
  if (isClosed === true) {
    const missing = sasl === undefined ? 'ssl or sasl' : 'ssl';
    const why = `${address} accepts connections and closes them; it may require ${missing}`;
    return new KafkaClientError('unavailable', why, { cause: error });
  }
  return error instanceof Error ? error : new KafkaClientError('unavailable', messageOf(error));
}

export function explainJoinError(error: unknown, group: string, name: string): unknown {
  if (!(error instanceof KafkaClientError) || error.failure !== 'refused') return error;
  const advice =
    errorType(error) === 'INCONSISTENT_GROUP_PROTOCOL'
      ? '; its members use another partition assignment protocol: stop them first, or use another groupId'
      : '';
  const why = `${name}: the group ${JSON.stringify(group)} refused this consumer: ${error.message}${advice}`;
  return new StorkConfigError(why, { cause: error });
}

export function explainReplyInboxError(error: unknown, topic: string, name: string): unknown {
  if (!(error instanceof KafkaClientError)) return error;
  const why = `${name}: replies cannot be read from ${JSON.stringify(topic)}: ${error.message}`;
  const options = { cause: error };
  return error.failure === 'refused'
    ? new StorkConfigError(why, options)
    : new ConnectionLostError(why, options);
}

export function unreachableAdvertisedText(
  unreachable: readonly string[],
  { brokers = [] }: KafkaOptions,
): string {
  return (
    `${brokers.join(', ')} can be reached, but the brokers advertise addresses that cannot: ` +
    `${unreachable.join(', ')}. Check advertised.listeners of the brokers`
  );
}
