import type { DeliveryOrder } from '../../core/port/driver.js';
import type { InboundMessage } from '../../core/port/message.js';
import { kafkaHeaders } from './log-record.js';

/**
 * Messages with the same ordering key are handled one after another. A record without a key is handled in
 * the order of its partition, except a request: its caller would wait until all earlier records of the
 * partition are handled.
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
