import { StorkContext } from '../nest/context.js';
/** What a handler on a `kafka()` transport gets by `@Ctx()`. @publicApi */
export class KafkaContext extends StorkContext {
  /** The topic that it was read from. */
  get topic() {
    return this.args[0].origin.source;
  }
  get partition() {
    return this.args[0].origin.partition;
  }
  /** Decimal text: offsets have 64 bits. */
  get offset() {
    return this.args[0].origin.offset;
  }
  /** kafkajs's own message: key and headers as bytes. */
  get raw() {
    return this.args[0].raw;
  }
}
