import { errorType, toClientError } from './client-errors.js';
import { KafkaClientError } from '../client/client.js';

/** What is used of the inside of the client's producers. */
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
 * What became of a producer's requests. The client's own error does not tell: after a failed request it connects and asks for metadata,
 * and if that fails too, it says only that. What may have been written would look like what was never sent, and be sent again.
 */
export class ProduceRequests {
  readonly #watched = new WeakSet<ProducingBroker>();
  /** By partition, why its request failed; undefined while it has no answer. */
  readonly #failures = new Map<string, unknown>();

  /** From now on its requests are known. */
  watch(cluster: ProducingCluster): ProducingCluster {
    const findBroker = cluster.findBroker.bind(cluster);
    cluster.findBroker = async (node) => {
      const broker = await findBroker(node);
      if (!this.#watched.has(broker)) this.#watchBroker(broker);
      return broker;
    };
    return cluster;
  }

  /** Before the client is asked to send to the partition. */
  begin(topic: string, partition: number): void {
    this.#failures.delete(nameOf(topic, partition));
  }

  /** @param error the client's own */
  failure(topic: string, partition: number, error: unknown): KafkaClientError {
    const name = nameOf(topic, partition);
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
        partitions.map(({ partition }) => nameOf(topic, partition)),
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

/** Only a broker's answer says that nothing was written. */
function requestFailure(error: unknown): KafkaClientError {
  const failure = toClientError(error, 'unconfirmed');
  if (failure.failure !== 'unavailable' || errorType(error) !== undefined) return failure;
  return new KafkaClientError('unconfirmed', failure.message, { cause: error });
}

function nameOf(topic: string, partition: number): string {
  return `${topic}/${partition}`;
}
