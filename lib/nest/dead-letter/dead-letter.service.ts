import { Injectable } from '@nestjs/common';
import type { DeadLetterStore } from '../../core/port/dead-letter-store.js';
import { StorkConfigError } from '../../core/runtime/errors.js';
import type { DeadLetterRecord } from '../../core/dead-letter/admin/dead-letter-record.js';
import type { DeadLetterFilter } from '../../core/dead-letter/admin/dead-letter-filter.js';
import {
  countDeadLetters,
  discardDeadLetters,
  listDeadLetters,
  replayDeadLetters,
  type DeadLetterStats,
  type DeadLetterProgress,
  type DeadLetterReport,
} from '../../core/dead-letter/admin/dead-letter-operations.js';
import { printable } from '../../core/message/text.js';
import { validateDeadLetterQuery } from './dead-letter-query.js';
import { TransportRegistry } from '../bootstrap/transport-registry.js';

/** Which dead letters a call applies to, and where they are stored. @publicApi */
export interface DeadLetterQuery extends DeadLetterFilter {
  /**
   * Name of the transport whose messages were dead-lettered.
   *
   * @defaultValue the transport, if there is only one
   */
  readonly transport?: string | undefined;
  /**
   * Queue or topic in which the messages failed.
   *
   * @defaultValue the queue or topic of the transport's options
   */
  readonly source?: string | undefined;
  /** Dead letter queue or topic. @defaultValue `<source>.dlq` */
  readonly from?: string | undefined;
  /**
   * RabbitMQ, for a quorum queue that stork did not declare: the queue's delivery limit, from 1, after
   * which it drops a message. Browsing counts as a delivery, so a call that comes near the limit is
   * refused.
   *
   * @defaultValue 20 on RabbitMQ 4, none before
   */
  readonly deliveryLimit?: number | undefined;
  /** Cancels the call. It does not undo the replays and discards that are complete by then. */
  readonly signal?: AbortSignal | undefined;
}

/** Query of `DeadLetterService.list()`. @publicApi */
export interface DeadLetterListQuery extends DeadLetterQuery {
  /** Maximum number of dead letters in the result. @defaultValue 100 */
  readonly max?: number | undefined;
}

/** Query of `DeadLetterService.discard()`. @publicApi */
export interface DeadLetterDiscardQuery extends DeadLetterQuery {
  /** True: the call changes nothing, and the report counts what it would change. @defaultValue true */
  readonly dryRun?: boolean | undefined;
  /** Maximum number of dead letters to process. @defaultValue all that are stored when the call starts */
  readonly max?: number | undefined;
  /** Maximum number of dead letters a second. @defaultValue no limit */
  readonly rate?: number | undefined;
  /**
   * Dead letters processed concurrently, from 1 to 1 000, on Kafka to 100. On RabbitMQ up to this many may
   * be replayed twice if the process crashes. On Kafka this many are replayed in one transaction.
   *
   * @defaultValue 1 on RabbitMQ, 100 on Kafka
   */
  readonly window?: number | undefined;
  /** Called after each dead letter. An exception ends the call, which rejects with it. */
  readonly onProgress?: ((progress: DeadLetterProgress) => void) | undefined;
}

/** Query of `DeadLetterService.replay()`. @publicApi */
export interface DeadLetterReplayQuery extends DeadLetterDiscardQuery {
  /** Dead letters that were replayed this many times are skipped. @defaultValue 3 */
  readonly maxReplays?: number | undefined;
}

const defaultListed = 100;
const defaultMaxReplays = 3;

/**
 * Lists, replays and discards dead letters. `npx nestjs-stork dlq` does the same on the command line.
 *
 * On RabbitMQ, browsed dead letters are unacknowledged meanwhile, so that other consumers do not see them,
 * and their delivery count rises by one.
 *
 * Every call rejects with
 *
 * - `StorkConfigError` if the query is invalid, or the transport, queue or topic does not exist
 * - `ConnectionLostError` if the connection is lost, `ClientClosedError` if the application shuts down
 * - the reason of `signal` if that aborts.
 *
 * `replay` and `discard` on Kafka also reject with
 *
 * - `PublishRejectedError` if an ACL is missing or another replay of the same group has started
 * - `NoRouteError` if a topic was deleted
 * - `PublishUnconfirmedError` if the outcome of the last transaction is unknown.
 *
 * A rejection does not undo the replays and discards that were complete before it.
 *
 * @publicApi
 */
@Injectable()
export class DeadLetterService {
  readonly #registry: TransportRegistry;

  constructor(registry: TransportRegistry) {
    this.#registry = registry;
  }

  /**
   * Lists matching dead letters, oldest first; on Kafka oldest first within each partition. Changes
   * nothing.
   */
  async list(query: DeadLetterListQuery = {}): Promise<DeadLetterRecord[]> {
    const { max = defaultListed } = query;
    return this.#withStore(query, (store) => listDeadLetters(store, { ...browseOptionsOf(query), max }));
  }

  /** Counts the matching dead letters. Changes nothing. */
  async stats(query: DeadLetterQuery = {}): Promise<DeadLetterStats> {
    return this.#withStore(query, (store) => countDeadLetters(store, browseOptionsOf(query)));
  }

  /**
   * Sends matching dead letters back to the queue or consumer group in which they failed, for the handler
   * that failed. The message keeps its id, and its attempts start at 1. A dry run unless `dryRun: false`.
   * The call is safe to repeat: it does not find replayed dead letters again.
   */
  async replay(query: DeadLetterReplayQuery = {}): Promise<DeadLetterReport> {
    const { maxReplays = defaultMaxReplays } = query;
    return this.#withStore(query, (store) =>
      replayDeadLetters(store, { ...this.#changeOptionsOf(query), maxReplays }),
    );
  }

  /** Deletes matching dead letters. A dry run unless `dryRun: false`. */
  async discard(query: DeadLetterDiscardQuery = {}): Promise<DeadLetterReport> {
    return this.#withStore(query, (store) => discardDeadLetters(store, this.#changeOptionsOf(query)));
  }

  async #withStore<T>(query: DeadLetterQuery, operation: (store: DeadLetterStore) => Promise<T>): Promise<T> {
    const problems = validateDeadLetterQuery(query);
    if (problems.length > 0) throw new StorkConfigError(problems);
    const { source, from, deliveryLimit, signal } = query;
    signal?.throwIfAborted();
    const store = await this.#registry
      .get(this.#transportOf(query))
      .deadLetters({ source, from, deliveryLimit });
    try {
      return await operation(store);
    } finally {
      await store.close();
    }
  }

  #transportOf({ transport }: DeadLetterQuery): string {
    const { names } = this.#registry;
    const name = transport ?? (names.length === 1 ? names[0]! : undefined);
    if (name !== undefined && names.includes(name)) return name;
    const expected = `one of the transports ${names.join(', ')}`;
    throw new StorkConfigError([{ name: 'transport', expected, given: printable(transport) }]);
  }

  #changeOptionsOf(query: DeadLetterDiscardQuery) {
    const { dryRun = true, max = Infinity, rate = Infinity, window, onProgress = () => {} } = query;
    return { ...browseOptionsOf(query), dryRun, max, rate, window, onProgress, clock: this.#registry.clock };
  }
}

function browseOptionsOf(query: DeadLetterQuery) {
  return { filter: query, signal: query.signal ?? new AbortController().signal };
}
