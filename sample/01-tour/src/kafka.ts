import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin } from 'kafkajs';
import { kafka } from 'nestjs-stork/kafka';
import { unreadJson, type Broker } from './broker-choice.js';
import type { TourOptions } from './options.js';

const defaultBrokers = '127.0.0.1:9092';
const defaultTopic = 'stork-tour';
/** Somebody watches: a broker that was restarted is to be found again soon. */
const reconnect = { delayMs: 100, maxDelayMs: 1_000 };
/** A shop that was killed is missed soon, and its partitions go to the next one. */
const sessionTimeoutMs = 6_000;
/** The type of an order's event travels in a header: so events of one order stay in order whatever their type. */
const patternHeader = 'stork-pattern';

/** The brokers at `KAFKA_BROKERS`, or the one on this machine. */
export function onKafka(options: TourOptions): Broker {
  const brokers = (process.env['KAFKA_BROKERS'] ?? defaultBrokers).split(',');
  const topic = options.queue ?? ownTopic(options);
  const common = { brokers, reconnect, sessionTimeoutMs, patternHeader, fromBeginning: true, partitions: 3 };
  return {
    transports: {
      // The shop is alone with its topic: what nobody handles is a mistake, not somebody else's message.
      shop: kafka({ ...common, topic, groupId: topic, onUnhandled: 'dead-letter' }),
      deadLetters: kafka({
        ...common,
        topic: `${topic}.dlq`,
        groupId: `${topic}.letters`,
        codecs: [unreadJson],
      }),
    },
    description: `kafka at ${brokers.join(', ')}, topic ${topic}`,
    lettersCommand: `npx nestjs-stork dlq list --brokers ${brokers.join(',')} --topic ${topic} --group ${topic}`,
    explainSilence: (reason) =>
      `Kafka cannot be reached at ${brokers.join(', ')} (${reason}); to start one: npm run brokers -- up kafka`,
    cleanUp: () => deleteTopics(brokers, topic),
  };
}

/** Two processes meet at one name. One that does everything takes a fresh one, so that nothing of an earlier tour is in it. */
function ownTopic({ isPublishing, isConsuming }: TourOptions): string {
  return isPublishing && isConsuming ? `${defaultTopic}.${randomUUID().slice(0, 8)}` : defaultTopic;
}

/**
 * Each of the two transports declares its topic, that topic's dead letter topic, and one for what is replayed to its group; the client
 * made one for replies.
 */
async function deleteTopics(brokers: string[], topic: string): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
  await admin.connect();
  const deadLetters = `${topic}.letters`;
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

/** A group whose members have just left may not be empty yet: what is refused is asked for again. */
async function deleteGroups(admin: Admin, groups: readonly string[]): Promise<void> {
  let left = [...groups];
  for (const until = Date.now() + 10_000; ; await sleep(200)) {
    try {
      await admin.deleteGroups(left);
      return;
    } catch (error) {
      if (!(error instanceof kafkajs.KafkaJSDeleteGroupsError) || Date.now() > until) throw error;
      left = error.groups.map(({ groupId }) => groupId);
    }
  }
}
