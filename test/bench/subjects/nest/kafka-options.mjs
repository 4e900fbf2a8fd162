import { Transport } from '@nestjs/microservices';
import { fetchWaitMs } from '../../topics.mjs';

/** Nest's own transport, as its documentation sets it up. */
export function kafka(brokers, groupId, more = {}) {
  const client = { brokers, clientId: groupId };
  const consumer = { groupId, maxWaitTimeInMs: fetchWaitMs };
  const options = { client, consumer, subscribe: { fromBeginning: true }, ...more };
  return { transport: Transport.KAFKA, options };
}

/** Nest appends to the name of the group. */
export function serverGroup(groupId) {
  return `${groupId}-server`;
}
