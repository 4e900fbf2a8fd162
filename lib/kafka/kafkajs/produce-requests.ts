import { errorType, toClientError } from './errors.js';
import { KafkaClientError, partitionName, type TopicPartition } from '../client/client.js';

/** The members of kafkajs's private cluster object that a producer uses. */
export interface ProducingCluster {
  findBroker(node: { nodeId: number | string }): Promise<ProducingBroker>;
}

interface ProducingBroker {
  produce(request: ProduceRequest): Promise<unknown>;
}

interface ProduceRequest {
  readonly topicData: readonly {
    readonly topic: string;
    readonly partitions: readonly { readonly partition: number }[];
  }[];
}

/**
 * Records the outcome of each Produce request of a kafkajs producer. kafkajs's own error does not contain it:
 * after a failed request kafkajs reconnects and refreshes metadata, and reports only the failure of that. A
 * batch that may have been written would then look like one that was never sent, and would be sent again.
 */
export class ProduceRequests {
  readonly #watched = new WeakSet<ProducingBroker>();
  /** The error of the last request by partition; undefined while its response is pending. */
  readonly #failures = new Map<string, unknown>();

  /** Records the requests of all brokers of the cluster from now on. */
  watch(cluster: ProducingCluster): ProducingCluster {
    const findBroker = cluster.findBroker.bind(cluster);
    cluster.findBroker = async (node) => {
      const broker = await findBroker(node);
      if (!this.#watched.has(broker)) this.#watchBroker(broker);
      return broker;
    };
    return cluster;
  }

  /** Must be called before each `send` to the partition. */
  begin(at: TopicPartition): void {
    this.#failures.delete(partitionName(at));
  }

  /** @param error the error with which kafkajs rejected */
  failure(at: TopicPartition, error: unknown): KafkaClientError {
    const name = partitionName(at);
    if (this.#failures.has(name)) return requestFailure(this.#failures.get(name) ?? error);
    const failure = toClientError(error, 'unavailable');
    if (failure.failure !== 'unconfirmed') return failure;
    return new KafkaClientError('unavailable', `nothing was sent: ${failure.message}`, { cause: error });
  }

  #watchBroker(broker: ProducingBroker): void {
    this.#watched.add(broker);
    const produce = broker.produce.bind(broker);
    broker.produce = async (request) => {
      const names = request.topicData.flatMap(({ topic, partitions }) =>
        partitions.map(({ partition }) => partitionName({ topic, partition })),
      );
      for (const name of names) this.#failures.set(name, undefined);
      try {
        return await produce(request);
      } catch (error) {
        for (const name of names) this.#failures.set(name, error);
        throw error;
      }
    };
  }
}

/** `unavailable` only by the broker's error code: without a response, the batch may have been written. */
function requestFailure(error: unknown): KafkaClientError {
  const failure = toClientError(error, 'unconfirmed');
  if (failure.failure !== 'unavailable' || errorType(error) !== undefined) return failure;
  return new KafkaClientError('unconfirmed', failure.message, { cause: error });
}
