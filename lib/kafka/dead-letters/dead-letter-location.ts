import type { DeadLetterLocation } from '../../core/port/dead-letter-store.js';
import { ConnectionLostError, StorkConfigError } from '../../core/runtime/errors.js';
import { deadLetterTopic } from '../../driver-kit/log/topic-names.js';
import { KafkaClientError, type KafkaAdmin } from '../client/client.js';
import type { KafkaOptions } from '../options/options.js';

/** Whose letters, and where they lie. */
export interface KafkaDeadLetterLocation {
  readonly source: string;
  readonly from: string;
  readonly group: string;
}

/** @throws StorkConfigError where nobody says which topic is meant, or there is none of that name */
export async function findDeadLetterLocation(
  place: DeadLetterLocation,
  options: Pick<KafkaOptions, 'topic' | 'topics' | 'groupId'>,
  transport: string,
  admin: Pick<KafkaAdmin, 'partitionCounts'>,
): Promise<KafkaDeadLetterLocation> {
  const source = place.source ?? onlyTopic(options);
  const group = options.groupId;
  if (source === undefined) {
    const expected = `the topic whose letters are meant: the transport ${JSON.stringify(transport)} names not just one`;
    throw new StorkConfigError([{ name: 'source', expected, given: 'undefined' }]);
  }
  if (group === undefined) {
    const expected = 'the name of the consumer group whose letters are meant';
    throw new StorkConfigError([{ name: `transports.${transport}.groupId`, expected, given: 'undefined' }]);
  }
  const from = place.from ?? deadLetterTopic(source);
  if (!(await exists(from, admin))) {
    const name = place.from === undefined ? 'source' : 'from';
    const expected = name === 'from' ? 'a topic that exists' : `a topic whose letters lie in ${from}`;
    throw new StorkConfigError([
      { name, expected, given: `${place[name] ?? source}: there is no topic ${from}` },
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
    const expected = 'that it exists, and the right to describe and read it';
    throw new StorkConfigError([{ name: `topic ${topic}`, expected, given: error.message }], {
      cause: error,
    });
  }
}

function onlyTopic({ topic, topics }: Pick<KafkaOptions, 'topic' | 'topics'>): string | undefined {
  const [only, ...others] = topics ?? [topic];
  return typeof only === 'string' && others.length === 0 ? only : undefined;
}
