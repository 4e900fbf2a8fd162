import type { DeliveryOrder } from '../../core/port/driver.js';
import type { InboundMessage } from '../../core/port/message.js';
import { kafkaHeaders } from './log-record.js';

/**
 * The lane of a message of a log; a record without a key takes its partition's order. A request without one runs free: each caller waits
 * for its own answer, and would wait for all those before it.
 */
export function orderingKeyOf(
  order: DeliveryOrder,
  partition: string,
  { key, headers }: Pick<InboundMessage, 'key' | 'headers'>,
): string | undefined {
  switch (order) {
    case 'none':
      return undefined;
    case 'partition':
      return partition;
    case 'key':
      if (key !== undefined) return `${partition}/${key}`;
      return headers[kafkaHeaders.replyTopic] === undefined ? partition : undefined;
  }
}
