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
import { checkDeadLetterQuery } from './dead-letter-query.js';
import { TransportRegistry } from '../bootstrap/transport-registry.js';

/** Which letters are meant, and where they lie. @publicApi */
export interface DeadLetterQuery extends DeadLetterFilter {
  /** Name of the transport that failed them. @defaultValue the only one */
  readonly transport?: string | undefined;
  /** Queue or topic that they failed in. @defaultValue the transport's own, where it names one */
  readonly source?: string | undefined;
  /** Queue or topic in which they lie. @defaultValue `<source>.dlq` */
  readonly from?: string | undefined;
  /**
   * On RabbitMQ, of a quorum queue that this library has not declared: deliveries of a letter after which the queue drops it, from 1. Each
   * look is one; looks that come near it are refused. @defaultValue 20 on RabbitMQ 4, else none
   */
  readonly deliveryLimit?: number | undefined;
  /** Ends the work; what was done by then is done. */
  readonly signal?: AbortSignal | undefined;
}

/** Which letters are returned, and how many. @publicApi */
export interface DeadLetterListQuery extends DeadLetterQuery {
  /** Letters that are returned at most. @defaultValue 100 */
  readonly max?: number | undefined;
}

/** Which letters are removed, and how. @publicApi */
export interface DeadLetterDiscardQuery extends DeadLetterQuery {
  /** True: nothing is changed, the report says what would be. @defaultValue true */
  readonly dryRun?: boolean | undefined;
  /** Letters that are worked on at most. @defaultValue all that lie there when it begins */
  readonly max?: number | undefined;
  /** Letters a second at most. @defaultValue as fast as it goes */
  readonly rate?: number | undefined;
  /**
   * Letters on their way at once. On RabbitMQ so many can be replayed twice where the process dies in between. On Kafka they are
   * replayed in one transaction. From 1 to 1 000, on Kafka at most 100. @defaultValue 1, on Kafka 100
   */
  readonly window?: number | undefined;
  /** Told after each letter. What it throws ends the work, which then rejects with it; what was done by then is done. */
  readonly onProgress?: ((progress: DeadLetterProgress) => void) | undefined;
}

/** Which letters are sent back, and how. @publicApi */
export interface DeadLetterReplayQuery extends DeadLetterDiscardQuery {
  /** Letters that were replayed so often stay where they are. @defaultValue 3 */
  readonly maxReplays?: number | undefined;
}

const defaultListed = 100;
const defaultMaxReplays = 3;

/**
 * Looks at dead letters, sends them back to what failed them, discards them. `npx nestjs-stork dlq` does the same from a terminal.
 *
 * On RabbitMQ listed letters are invisible to other readers while they are looked at, and their delivery count rises by one.
 *
 * Every call rejects with `StorkConfigError` where the query is wrong or there is no such transport, queue or topic; with
 * `ConnectionLostError` where the broker goes away, `ClientClosedError` where the application ends; with the reason of `signal` where
 * that aborts. Replaying and discarding on Kafka reject with `PublishRejectedError` where the right is missing or another replay of the
 * group has begun, `NoRouteError` where a topic is gone, and `PublishUnconfirmedError` where it is not known what became of the last.
 * What was done by then is done.
 *
 * @publicApi
 */
@Injectable()
export class DeadLetterService {
  readonly #registry: TransportRegistry;

  constructor(registry: TransportRegistry) {
    this.#registry = registry;
  }

  /** The first that are meant, oldest first; on a log, oldest first within each partition. Settles nothing. */
  async list(query: DeadLetterListQuery = {}): Promise<DeadLetterRecord[]> {
    const { max = defaultListed } = query;
    return this.#withStore(query, (store) => listDeadLetters(store, { ...lookOf(query), max }));
  }

  /** Counts all that are meant. Settles nothing. */
  async stats(query: DeadLetterQuery = {}): Promise<DeadLetterStats> {
    return this.#withStore(query, (store) => countDeadLetters(store, lookOf(query)));
  }

  /**
   * Sends them back to the queue, or to the group, that failed them, to the handler that failed; attempts begin anew, the message id stays.
   * A dry run unless `dryRun: false`. It can be repeated at any time: what was replayed is not there any more.
   */
  async replay(query: DeadLetterReplayQuery = {}): Promise<DeadLetterReport> {
    const { maxReplays = defaultMaxReplays } = query;
    return this.#withStore(query, (store) =>
      replayDeadLetters(store, { ...this.#workOf(query), maxReplays }),
    );
  }

  /** Removes them for good. A dry run unless `dryRun: false`. */
  async discard(query: DeadLetterDiscardQuery = {}): Promise<DeadLetterReport> {
    return this.#withStore(query, (store) => discardDeadLetters(store, this.#workOf(query)));
  }

  async #withStore<T>(query: DeadLetterQuery, work: (store: DeadLetterStore) => Promise<T>): Promise<T> {
    const problems = checkDeadLetterQuery(query);
    if (problems.length > 0) throw new StorkConfigError(problems);
    const { source, from, deliveryLimit, signal } = query;
    signal?.throwIfAborted();
    const store = await this.#registry.get(this.#nameOf(query)).deadLetters({ source, from, deliveryLimit });
    try {
      return await work(store);
    } finally {
      await store.close();
    }
  }

  #nameOf({ transport }: DeadLetterQuery): string {
    const { names } = this.#registry;
    const name = transport ?? (names.length === 1 ? names[0]! : undefined);
    if (name !== undefined && names.includes(name)) return name;
    const expected = `one of the transports ${names.join(', ')}`;
    throw new StorkConfigError([{ name: 'transport', expected, given: printable(transport) }]);
  }

  #workOf(query: DeadLetterDiscardQuery) {
    const { dryRun = true, max = Infinity, rate = Infinity, window, onProgress = () => {} } = query;
    return { ...lookOf(query), dryRun, max, rate, window, onProgress, clock: this.#registry.clock };
  }
}

function lookOf(query: DeadLetterQuery) {
  return { filter: query, signal: query.signal ?? new AbortController().signal };
}
