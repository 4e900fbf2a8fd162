import { StorkConfigError } from '../core/runtime/errors.js';
import { StorkContext } from '../nest/context/stork.context.js';
import type { FetchedRecord } from './client/client.js';

/** A record with its parts decoded, as Nest's `KafkaContext.getMessage()` returns it. @publicApi */
export interface DecodedRecord extends Omit<FetchedRecord, 'key' | 'value' | 'headers'> {
  readonly topic: string;
  readonly partition: number;
  readonly key: string | null;
  /** The data, before pipes. */
  readonly value: unknown;
  /** Each as text; the first value of a repeated header. */
  readonly headers: Readonly<Record<string, string | undefined>>;
}

/** The `@Ctx()` of a handler on a `kafka()` transport. @publicApi */
export class KafkaContext extends StorkContext {
  /** The source topic, also while the message is retried through a retry topic. */
  get topic(): string {
    return this.source;
  }

  /** Partition of the fetched record; if that comes from a retry topic, a partition of the retry topic. */
  override get partition(): number {
    return this.args[0].origin.partition!;
  }

  /** Offset in `partition`, as a decimal string: offsets have 64 bits, more than a `number` holds. */
  override get offset(): string {
    return this.args[0].origin.offset!;
  }

  /** The message of kafkajs: key, value and headers are buffers. */
  override get raw(): FetchedRecord {
    return this.args[0].raw as FetchedRecord;
  }

  override getMessage(): DecodedRecord {
    const { raw, topic, partition, key = null } = this;
    const headers = Object.fromEntries(Object.keys(this.headers).map((name) => [name, this.header(name)]));
    return { ...raw, topic, partition, key, value: this.args[1], headers };
  }

  /** The source topic, as `topic`; for code written for Nest's `KafkaContext`. */
  getTopic(): string {
    return this.topic;
  }

  /** The partition, as `partition`; for code written for Nest's `KafkaContext`. */
  getPartition(): number {
    return this.partition;
  }

  /** A function that does nothing: heartbeats are sent while a handler runs, however long it takes. */
  getHeartbeat(): () => Promise<void> {
    return () => Promise.resolve();
  }

  /** @throws StorkConfigError always: a commit by hand would skip messages that are still being handled */
  getConsumer(): never {
    throw new StorkConfigError(
      "getConsumer(): the consumer belongs to stork; to commit by hand, use @Consume({ delivery: 'manual' }) and ctx.ack()",
    );
  }

  /** @throws StorkConfigError always: inject a client to send */
  getProducer(): never {
    throw new StorkConfigError(
      'getProducer(): the producer belongs to stork; send by a client, which @InjectClient() injects',
    );
  }
}
