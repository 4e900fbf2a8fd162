import type { Kafka, RetryOptions } from 'kafkajs';
import { toClientError } from './client-errors.js';

// What the files that know kafkajs share.

/** Few and quick: what lasts longer is our own back-off's. Never left out: the client's own depend on NODE_ENV. */
export const fewRetries: RetryOptions = {
  retries: 3,
  initialRetryTime: 100,
  maxRetryTime: 1_000,
  factor: 0.2,
  multiplier: 2,
};
export const metadataMaxAgeMs = 60_000;
export const compressionTypes = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const;
/** As the protocol numbers them. */
export const coordinatorTypes = { group: 0, transaction: 1 } as const;

/** A client's connections to the brokers, which it shows to nobody; whoever uses more of it says so. */
export interface Cluster {
  readonly brokerPool: {
    withBroker<T>(ask: (on: { broker: CoordinatorFinder }) => Promise<T>): Promise<T>;
  };
}

interface CoordinatorFinder {
  findGroupCoordinator(query: CoordinatorQuery): Promise<unknown>;
}

interface CoordinatorQuery {
  readonly groupId: string;
  readonly coordinatorType: number;
}

type MakeCluster<C> = (settings: object) => C;

/** How the client makes a cluster, and the way to have it made otherwise for a while. */
export function clusterMaker<C>(kafka: Kafka): {
  make: MakeCluster<C>;
  readonly during: <T>(make: MakeCluster<C>, work: () => T) => T;
} {
  const makers = kafka as unknown as Record<symbol, MakeCluster<C>>;
  const name = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === 'private:Kafka:createCluster',
  );
  if (name === undefined)
    throw new Error('kafkajs: expected version 2.2.4, given one that is made otherwise');
  const original = makers[name]!;
  const during = <T>(make: MakeCluster<C>, work: () => T): T => {
    makers[name] = make;
    try {
      return work();
    } finally {
      makers[name] = original;
    }
  };
  return { make: original, during };
}

/** The client drops what the brokers answer, e.g. that the group is not ours to join, and would look for its coordinator without end. */
export async function whyNoCoordinator({ brokerPool }: Cluster, query: CoordinatorQuery): Promise<unknown> {
  try {
    return await brokerPool.withBroker(({ broker }) =>
      broker.findGroupCoordinator(query).then(
        () => undefined,
        (error: unknown) => (toClientError(error, 'unavailable').failure === 'refused' ? error : undefined),
      ),
    );
  } catch {
    return undefined;
  }
}

export async function asked<T>(response: Promise<T>): Promise<T> {
  try {
    return await response;
  } catch (error) {
    throw toClientError(error, 'unavailable');
  }
}

export async function quietly(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch {
    // It is over either way.
  }
}
