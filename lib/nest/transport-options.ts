import type { DeadLetterOptions } from '../core/dead-letter/dead-letter-options.js';
import type { IdempotencyOptions } from '../core/idempotency/idempotency-options.js';
import type { MessageCodec } from '../core/message/codec.js';
import type { RetryOptions } from '../core/retry/retry-options.js';

/**
 * Options that every transport takes, whatever its broker.
 *
 * @publicApi
 */
export interface CommonTransportOptions {
  /**
   * `all`: handlers that name no transport are on this one too. `explicit`: only those that name it. `none`: nothing is consumed or
   * declared, for a transport that only sends. @defaultValue 'all'
   */
  readonly handlers?: 'all' | 'explicit' | 'none';
  /** Handlers at work at once. @defaultValue 10 */
  readonly concurrency?: number;
  /** A message with a longer body is dead-lettered unread. @defaultValue 16 MiB */
  readonly maxBodyBytes?: number;
  /** Requests that may wait for their reply at once. @defaultValue 10 000 */
  readonly maxPending?: number;
  /**
   * What a message gets whose pattern no handler listens to. @defaultValue 'dead-letter' where the source is ours alone, 'skip'
   * (counted) where others read it too
   */
  readonly onUnhandled?: 'dead-letter' | 'skip';
  /** Body codecs of this transport; they win over the module's. @defaultValue [] */
  readonly codecs?: readonly MessageCodec[];
  /** Content type of what we send, and of what comes without one. @defaultValue 'application/json' */
  readonly defaultContentType?: string;
  /** Field by field over the module's. */
  readonly retry?: RetryOptions | undefined;
  /** Field by field over the module's. */
  readonly deadLetter?: DeadLetterOptions | undefined;
  /** Field by field over the module's. */
  readonly idempotency?: IdempotencyOptions | undefined;
}
