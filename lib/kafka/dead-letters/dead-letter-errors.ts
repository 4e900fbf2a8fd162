import {
  ConnectionLostError,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
  StorkConfigError,
} from '../../core/runtime/errors.js';
import { KafkaClientError } from '../client/client.js';
import type { KafkaDeadLetterLocation } from './dead-letter-location.js';

/** Converts a client error into an error of the public API. Other errors are returned unchanged. */
export function deadLetterError(error: unknown, { from, group }: KafkaDeadLetterLocation): unknown {
  if (!(error instanceof KafkaClientError)) return error;
  const where = `the dead letters of ${JSON.stringify(from)}`;
  const why = `${where}: ${error.message}`;
  const options = { cause: error };
  switch (error.failure) {
    case 'fenced':
      return new PublishRejectedError(
        `${where}: another process has started to replay dead letters of the group ${JSON.stringify(group)}, or the ` +
          'transaction was open for too long; dead letters that were not reported as replayed or discarded are unchanged',
        options,
      );
    case 'unknown-topic':
      return new NoRouteError(why, options);
    case 'too-large':
    case 'refused':
      return new PublishRejectedError(why, options);
    case 'unsupported-codec':
      return new StorkConfigError(`${why}; add the codec to compressionCodecs of the transport`, options);
    case 'unconfirmed':
      return new PublishUnconfirmedError(
        `${why}; the last dead letters may have been replayed or discarded: list them again to see which remain`,
        options,
      );
    case 'unavailable':
      return new ConnectionLostError(why, options);
  }
}
