import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin } from 'kafkajs';
import { kafka } from 'nestjs-stork/kafka';
import { unreadJson, type Broker } from './broker-choice.js';
import type { TourOptions } from './options.js';

const defaultBrokers = '127.0.0.1:9092';
const defaultTopic = 'stork-tour';
/** Short, because a person watches: a restarted broker is found again soon. */
const reconnect = { delayMs: 100, maxDelayMs: 1_000 };
/** After a SIGKILL of the shop its partitions move to the next shop this soon. */
const sessionTimeoutMs = 6_000;
/**
 * Events of one order share a topic whatever their type, so they stay in order; the type is in this header.
 */
const patternHeader = 'stork-pattern';

/** The brokers at `KAFKA_BROKERS`, or the one on this machine. */
export function onKafka(options: TourOptions): Broker {
  const brokers = (process.env['KAFKA_BROKERS'] ?? defaultBrokers).split(',');
  const topic = options.queue ?? ownTopic(options);
  const common = { brokers, reconnect, sessionTimeoutMs, patternHeader, fromBeginning: true, partitions: 3 };
  return {
    transports: {
      // No other service reads this topic, so a message without a handler is a mistake.
      shop: kafka({ ...common, topic, groupId: topic, onUnhandled: 'dead-letter' }),
      deadLetters: kafka({
        ...common,
        topic: `${topic}.dlq`,
        groupId: `${topic}.dead-letters`,
        codecs: [unreadJson],
      }),
    },
    description: `kafka at ${brokers.join(', ')}, topic ${topic}`,
    deadLettersCommand: `npx nestjs-stork dlq list --brokers ${brokers.join(',')} --topic ${topic} --group ${topic}`,
    explainSilence: (reason) =>
      `Kafka cannot be reached at ${brokers.join(', ')} (${reason}); to start one: npm run brokers -- up kafka`,
    cleanUp: () => deleteTopics(brokers, topic),
  };
}

/**
 * Two processes share the default name. A single process takes a new one, so that no earlier tour's records
 * are in it.
 */
function ownTopic({ isPublishing, isConsuming }: TourOptions): string {
  return isPublishing && isConsuming ? `${defaultTopic}.${randomUUID().slice(0, 8)}` : defaultTopic;
}

/**
 * Each of the two transports created its topic, that topic's dead letter topic, and a retry topic for replays
 * to its group; the client created a reply topic.
 */
async function deleteTopics(brokers: string[], topic: string): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  const deadLetters = `${topic}.dead-letters`;
  const made = [
    topic,
    `${topic}.dlq`,
    `${topic}.dlq.dlq`,
    `${topic}.retry.${topic}.0`,
    `${topic}.dlq.retry.${deadLetters}.0`,
    `${topic}.reply`,
    `${deadLetters}.reply`,
  ];
  try {
    const names = new Set(await admin.listTopics());
    await admin.deleteTopics({ topics: made.filter((name) => names.has(name)) });
    await deleteGroups(admin, [topic, deadLetters]);
  } finally {
    await admin.disconnect();
  }
}

/** A group whose members have just left may not be empty yet, so a refused deletion is repeated. */
async function deleteGroups(admin: Admin, groups: readonly string[]): Promise<void> {
  let left = [...groups];
  for (const until = Date.now() + 60_000; ; await sleep(200)) {
    try {
      await admin.deleteGroups(left);
      return;
    } catch (error) {
      if (!(error instanceof kafkajs.KafkaJSDeleteGroupsError) || Date.now() > until) throw error;
      left = error.groups.map(({ groupId }) => groupId);
    }
  }
}
