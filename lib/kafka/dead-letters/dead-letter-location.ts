import type { DeadLetterLocation } from '../../core/port/dead-letter-store.js';
import { ConnectionLostError, StorkConfigError } from '../../core/runtime/errors.js';
import { deadLetterTopic } from '../../driver-kit/log/topic-names.js';
import { KafkaClientError, type KafkaAdmin } from '../client/client.js';
import type { KafkaOptions } from '../options/options.js';

/** Identifies the dead letters of one source topic and one consumer group. */
export interface KafkaDeadLetterLocation {
  /** Topic in which the messages failed. */
  readonly source: string;
  /** Topic that holds the dead letters. */
  readonly from: string;
  /** Consumer group in which the messages failed, and which receives the replayed ones. */
  readonly group: string;
}

/**
 * @throws StorkConfigError if neither the call nor the transport names one source topic, or the dead letter
 * topic does not exist
 */
export async function resolveDeadLetterLocation(
  location: DeadLetterLocation,
  options: Pick<KafkaOptions, 'topic' | 'topics' | 'groupId'>,
  transport: string,
  admin: Pick<KafkaAdmin, 'partitionCounts'>,
): Promise<KafkaDeadLetterLocation> {
  const source = location.source ?? onlyTopic(options);
  const group = options.groupId;
  if (source === undefined) {
    const expected = `the source topic of the dead letters: the transport ${JSON.stringify(transport)} does not consume exactly one topic`;
    throw new StorkConfigError([{ name: 'source', expected, given: 'undefined' }]);
  }
  if (group === undefined) {
    const expected = 'the consumer group that the dead letters belong to';
    throw new StorkConfigError([{ name: `transports.${transport}.groupId`, expected, given: 'undefined' }]);
  }
  const from = location.from ?? deadLetterTopic(source);
  if (!(await exists(from, admin))) {
    const name = location.from === undefined ? 'source' : 'from';
    const expected = name === 'from' ? 'a topic that exists' : `a topic with the dead letter topic ${from}`;
    throw new StorkConfigError([
      { name, expected, given: `${location[name] ?? source}: there is no topic ${from}` },
    ]);
  }
  return { source, from, group };
}

async function exists(topic: string, admin: Pick<KafkaAdmin, 'partitionCounts'>): Promise<boolean> {
  try {
    return (await admin.partitionCounts([topic])).has(topic);
  } catch (error) {
    if (!(error instanceof KafkaClientError)) throw error;
    if (error.failure !== 'refused') throw new ConnectionLostError(error.message, { cause: error });
    const expected = 'to exist, with permission to describe and read it';
    throw new StorkConfigError([{ name: `topic ${topic}`, expected, given: error.message }], {
      cause: error,
    });
  }
}

function onlyTopic({ topic, topics }: Pick<KafkaOptions, 'topic' | 'topics'>): string | undefined {
  const [only, ...others] = topics ?? [topic];
  return typeof only === 'string' && others.length === 0 ? only : undefined;
}
