import type { Kafka, RetryOptions } from 'kafkajs';
import { toClientError } from './errors.js';

/**
 * Few and quick retries: the transport's own back-off covers longer outages. Always passed, because
 * kafkajs's default number of retries depends on NODE_ENV.
 */
export const fewRetries: RetryOptions = {
  retries: 3,
  initialRetryTime: 100,
  maxRetryTime: 1_000,
  factor: 0.2,
  multiplier: 2,
};
export const metadataMaxAgeMs = 60_000;
export const compressionTypes = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 } as const;
/** Numbers of the Kafka protocol. */
export const coordinatorTypes = { group: 0, transaction: 1 } as const;

/**
 * kafkajs's private cluster object, which holds its broker connections. Each file declares what it uses.
 */
export interface Cluster {
  readonly brokerPool: {
    withBroker<T>(request: (on: { broker: CoordinatorFinder }) => Promise<T>): Promise<T>;
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

/** kafkajs's private cluster factory, and a function that replaces it while `work` runs. */
export function clusterFactory<C>(kafka: Kafka): {
  make: MakeCluster<C>;
  readonly withClusterFactory: <T>(make: MakeCluster<C>, work: () => T) => T;
} {
  const factories = kafka as unknown as Record<symbol, MakeCluster<C>>;
  const name = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === 'private:Kafka:createCluster',
  );
  if (name === undefined)
    throw new Error('kafkajs: expected version 2.2.4, given one without its private cluster factory');
  const original = factories[name]!;
  const withClusterFactory = <T>(make: MakeCluster<C>, work: () => T): T => {
    factories[name] = make;
    try {
      return work();
    } finally {
      factories[name] = original;
    }
  };
  return { make: original, withClusterFactory };
}

/**
 * The broker's reason for refusing to name a coordinator, e.g. GROUP_AUTHORIZATION_FAILED; undefined if
 * there is none. kafkajs discards that error and would search for a coordinator forever.
 */
export async function findCoordinatorRefusal(
  { brokerPool }: Cluster,
  query: CoordinatorQuery,
): Promise<unknown> {
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

/** Rejects with `KafkaClientError`. */
export async function mapErrors<T>(response: Promise<T>): Promise<T> {
  try {
    return await response;
  } catch (error) {
    throw toClientError(error, 'unavailable');
  }
}

/** For closing: an error changes nothing, because the connection is not used again. */
export async function ignoringErrors(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch {
    // Ignored.
  }
}
