import { StorkContext } from '../nest/context/stork.context.js';
import type { FetchedRecord } from './client/client.js';

/** What a handler on a `kafka()` transport gets by `@Ctx()`. @publicApi */
export class KafkaContext extends StorkContext {
  /** The topic that it was read from. */
  get topic(): string {
    return this.args[0].origin.source;
  }

  get partition(): number {
    return this.args[0].origin.partition!;
  }

  /** Decimal text: offsets have 64 bits. */
  get offset(): string {
    return this.args[0].origin.offset!;
  }

  /** kafkajs's own message: key and headers as bytes. */
  override get raw(): FetchedRecord {
    return this.args[0].raw as FetchedRecord;
  }
}
