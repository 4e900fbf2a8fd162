import { StorkContext } from '../nest/context/stork.context.js';
import type { FetchedRecord } from './client/client.js';

/** The `@Ctx()` of a handler on a `kafka()` transport. @publicApi */
export class KafkaContext extends StorkContext {
  /** The source topic, also while the message is retried through a retry topic. */
  get topic(): string {
    return this.args[0].origin.source;
  }

  /** Partition of the fetched record; if that comes from a retry topic, a partition of the retry topic. */
  get partition(): number {
    return this.args[0].origin.partition!;
  }

  /** Offset in `partition`, as a decimal string: offsets have 64 bits, more than a `number` holds. */
  get offset(): string {
    return this.args[0].origin.offset!;
  }

  /** The message of kafkajs: key, value and headers are buffers. */
  override get raw(): FetchedRecord {
    return this.args[0].raw as FetchedRecord;
  }
}
