import {
  ConnectionLostError,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
  StorkConfigError,
} from '../../core/runtime/errors.js';
import { KafkaClientError } from '../client/client.js';
import type { KafkaDeadLetterLocation } from './dead-letter-location.js';

/** What the client's error means to whoever looks at letters, or does something with them; others are returned as they are. */
export function deadLetterError(error: unknown, { from, group }: KafkaDeadLetterLocation): unknown {
  if (!(error instanceof KafkaClientError)) return error;
  const where = `the dead letters of ${JSON.stringify(from)}`;
  const why = `${where}: ${error.message}`;
  const options = { cause: error };
  switch (error.failure) {
    case 'fenced':
      return new PublishRejectedError(
        `${where}: somebody else has begun to replay those of the group ${JSON.stringify(group)}, or the broker has waited too long for us; ` +
          'what was not told to be done is as it was',
        options,
      );
    case 'unknown-topic':
      return new NoRouteError(why, options);
    case 'too-large':
    case 'refused':
      return new PublishRejectedError(why, options);
    case 'unsupported-codec':
      return new StorkConfigError(`${why}; compressionCodecs of the transport can unpack it`, options);
    case 'unconfirmed':
      return new PublishUnconfirmedError(
        `${why}; whether the last of them were replayed or discarded, their marks will tell`,
        options,
      );
    case 'unavailable':
      return new ConnectionLostError(why, options);
  }
}
