import { messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import { murmur2 } from '../../driver-kit/log/murmur2.js';

/** A message as a partitioner sees it. @publicApi */
export interface MessageToPlace {
  readonly topic: string;
  readonly key: Buffer | string | null;
  /** How many partitions the topic has. */
  readonly partitions: number;
}

/** Chooses the partition of a message that names none: an integer from 0 to `partitions` − 1. @publicApi */
export type Partitioner = (message: MessageToPlace) => number;

/** Where Kafka's own clients put a key, so that services in other languages find it in the same partition. */
export function partitionOfKey(key: Buffer | string, partitions: number): number {
  return (murmur2(typeof key === 'string' ? Buffer.from(key) : key) & 0x7fffffff) % partitions;
}

/** The user's choice; whatever is wrong with it is an error of this one message. */
export function partitionBy(partitioner: Partitioner, message: MessageToPlace): number {
  let chosen: unknown;
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

export function isPartition(value: number, partitions: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < partitions;
}

function show(value: unknown): string {
  return typeof value === 'number' ? String(value) : value instanceof Promise ? 'a promise' : typeof value;
}
