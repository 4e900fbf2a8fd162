import { messageOf, StorkConfigError } from '../core/errors.js';
import { murmur2 } from '../core/murmur2.js';
/** Where Kafka's own clients put a key, so that services in other languages find it in the same partition. */
export function partitionOfKey(key, partitions) {
  return (murmur2(typeof key === 'string' ? Buffer.from(key) : key) & 0x7fffffff) % partitions;
}
/** The user's choice; whatever is wrong with it is an error of this one message. */
export function partitionBy(partitioner, message) {
  let chosen;
  try {
    chosen = partitioner(message);
  } catch (error) {
    const why = `the partitioner threw for a message to ${JSON.stringify(message.topic)}: ${messageOf(error)}`;
    throw new StorkConfigError(why, { cause: error });
  }
  if (typeof chosen === 'number' && isPartition(chosen, message.partitions)) return chosen;
  const expected = `an integer from 0 to ${message.partitions - 1}`;
  throw new StorkConfigError([
    { name: `partitioner, for a message to ${JSON.stringify(message.topic)}`, expected, given: show(chosen) },
  ]);
}
export function isPartition(value, partitions) {
  return Number.isInteger(value) && value >= 0 && value < partitions;
}
function show(value) {
  return typeof value === 'number' ? String(value) : value instanceof Promise ? 'a promise' : typeof value;
}
