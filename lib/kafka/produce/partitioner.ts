import { messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import { murmur2 } from '../../driver-kit/log/murmur2.js';
import type { PartitionChoice } from '../options/options.js';

/** The user's partitioner, option `partitioner`. */
export type Partitioner = (choice: PartitionChoice) => number;

/**
 * The partition of a key as the Java client computes it: producers in other languages choose the same one.
 */
export function partitionOfKey(key: Buffer | string, partitions: number): number {
  return (murmur2(typeof key === 'string' ? Buffer.from(key) : key) & 0x7fffffff) % partitions;
}

/** @throws StorkConfigError if the partitioner throws, or returns no partition of the topic */
export function partitionBy(partitioner: Partitioner, choice: PartitionChoice): number {
  let partition: unknown;
  try {
    partition = partitioner(choice);
  } catch (error) {
    const why = `the partitioner threw for a message to ${JSON.stringify(choice.topic)}: ${messageOf(error)}`;
    throw new StorkConfigError(why, { cause: error });
  }
  if (typeof partition === 'number' && isPartition(partition, choice.partitions)) return partition;
  const expected = `an integer from 0 to ${choice.partitions - 1}`;
  throw new StorkConfigError([
    {
      name: `partitioner, for a message to ${JSON.stringify(choice.topic)}`,
      expected,
      given: describeValue(partition),
    },
  ]);
}

export function isPartition(value: number, partitions: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < partitions;
}

function describeValue(value: unknown): string {
  return typeof value === 'number' ? String(value) : value instanceof Promise ? 'a promise' : typeof value;
}
