import { messageOf, StorkConfigError, type Problem } from '../core/errors.js';
import { deadLetterTopic, sourceOfLetters } from '../core/log-records.js';
import type { StorkLogger } from '../core/logger.js';
import { KafkaClientError, type KafkaAdmin, type TopicToCreate } from './client.js';

export interface TopologyFields {
  readonly admin: KafkaAdmin;
  readonly brokers: readonly string[];
  /** The transport's name, for messages. */
  readonly name: string;
  /** Of sources; undefined: the broker's own number. */
  readonly partitions: number | undefined;
  readonly replicationFactor: number | undefined;
  readonly logger: StorkLogger;
}

/** A letter carries more headers than its message. */
const roomForHeaders = 64 * 1024;
/** Letters are kept until a person has looked at them. */
const deadLetterConfig = { 'cleanup.policy': 'delete', 'retention.ms': '-1' };
const brokersOwnNumber = -1;

/** Makes the topics that a subscription needs, and says what is missing where that is not allowed. */
export class Topology {
  readonly #fields: TopologyFields;
  readonly #created = new Set<string>();

  constructor(fields: TopologyFields) {
    this.#fields = fields;
  }

  /** Whether this process made it: nothing in it is older than we are. */
  hasCreated(topic: string): boolean {
    return this.#created.has(topic);
  }

  /** @throws StorkConfigError with the commands that make what could not be made */
  async declare(sources: readonly string[]): Promise<void> {
    const there = await this.#lookFor(sources);
    const problems: Problem[] = [];
    for (const topic of sources) {
      if (!there.has(topic)) problems.push(...(await this.#create(await this.#source(topic))));
    }
    problems.push(...(await this.#declareLetters(sources)));
    if (problems.length > 0) throw new StorkConfigError(problems);
  }

  /** Makes the dead letter topics of topics that were found later, or were gone. What cannot be made is told by whoever writes to it. */
  async declareDeadLetters(sources: readonly string[]): Promise<void> {
    const problems = await this.#declareLetters(sources);
    for (const { name, expected } of problems)
      this.#fields.logger.error(`${this.#fields.name}: ${name}: ${expected}`);
  }

  async declareReplies(topic: string, partitions: number): Promise<void> {
    // A reply that nobody has fetched within minutes is of nobody's interest.
    const config = { 'cleanup.policy': 'delete', 'retention.ms': String(3_600_000) };
    await this.declareTopic({ topic, partitions, config });
  }

  /** Makes the topic unless it is there, however it is set up. @throws StorkConfigError with the command that makes it */
  async declareTopic(wanted: Omit<TopicToCreate, 'replicationFactor'>): Promise<void> {
    if ((await this.#fields.admin.partitionCounts([wanted.topic])).has(wanted.topic)) return;
    const problems = await this.#create(wanted);
    if (problems.length > 0) throw new StorkConfigError(problems);
  }

  /** One topic that we may not know of fails the question for all of them, and is not named. */
  async #lookFor(sources: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const { admin, name } = this.#fields;
    try {
      return await admin.partitionCounts(sources);
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    const problems: Problem[] = [];
    const there = new Map<string, number>();
    for (const topic of sources) {
      try {
        for (const [found, count] of await admin.partitionCounts([topic])) there.set(found, count);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        problems.push({
          name: `topic ${topic} of the transport ${JSON.stringify(name)}`,
          expected: `the right to describe and read it, and that it exists: ${this.#command(await this.#source(topic))}`,
          given: messageOf(error),
        });
      }
    }
    if (problems.length > 0) throw new StorkConfigError(problems);
    return there;
  }

  async #declareLetters(sources: readonly string[]): Promise<readonly Problem[]> {
    const { admin } = this.#fields;
    const counts = await admin.partitionCounts([...sources, ...sources.map(deadLetterTopic)]);
    const problems: Problem[] = [];
    for (const source of sources) {
      const topic = deadLetterTopic(source);
      const partitions = counts.get(source);
      if (counts.has(topic)) {
        await this.#warnOfWeaker(topic, source);
      } else if (partitions !== undefined) {
        problems.push(
          ...(await this.#create({ topic, partitions, config: await this.#letterConfig(source) })),
        );
      }
    }
    return problems;
  }

  async #letterConfig(source: string): Promise<Record<string, string>> {
    const largest = await this.#maxMessageBytes(source);
    const config: Record<string, string> = { ...deadLetterConfig };
    if (largest !== undefined) config['max.message.bytes'] = String(largest + roomForHeaders);
    return config;
  }

  async #maxMessageBytes(topic: string): Promise<number | undefined> {
    const { 'max.message.bytes': text } = await this.#configOf(topic);
    return text === undefined ? undefined : Number(text);
  }

  /** Without the right to look there is nothing to compare. */
  #configOf(topic: string): Promise<Readonly<Record<string, string>>> {
    return this.#fields.admin.topicConfig(topic).catch(() => ({}));
  }

  /** A topic that somebody else made may throw letters away, or be too small for them. */
  async #warnOfWeaker(topic: string, source: string): Promise<void> {
    const { logger, name, brokers } = this.#fields;
    const [given, wanted] = await Promise.all([this.#configOf(topic), this.#letterConfig(source)]);
    const weaker = Object.entries(wanted).filter(([key, value]) => isWeaker(given[key], value, key));
    if (weaker.length === 0) return;
    const settings = weaker.map(([key, value]) => `${key}=${value}`).join(',');
    logger.warn(
      `${name}: the dead letter topic ${topic} may lose letters; ` +
        `kafka-configs.sh --bootstrap-server ${brokers[0]} --alter --topic ${topic} --add-config ${settings}`,
    );
  }

  /** Somebody else may make it in the same moment: that is as good. */
  async #create(wanted: Omit<TopicToCreate, 'replicationFactor'>): Promise<readonly Problem[]> {
    const { admin, replicationFactor, logger, name } = this.#fields;
    const { topic } = wanted;
    try {
      await admin.createTopics([{ ...wanted, replicationFactor }]);
      this.#created.add(topic);
      logger.log(`${name}: made the topic ${topic}`);
      return [];
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return [
        {
          name: `topic ${topic} of the transport ${JSON.stringify(name)}`,
          expected: `to exist: ${this.#command(wanted)}`,
          given: `none, and it may not be created here: ${messageOf(error)}`,
        },
      ];
    }
  }

  /** Whoever reads letters may come before whoever writes them: their topic is made as theirs. */
  async #source(topic: string): Promise<Omit<TopicToCreate, 'replicationFactor'>> {
    const source = sourceOfLetters(topic);
    const config = source === undefined ? {} : await this.#letterConfig(source);
    return { topic, partitions: this.#fields.partitions ?? brokersOwnNumber, config };
  }

  #command({ topic, partitions, config }: Omit<TopicToCreate, 'replicationFactor'>): string {
    const { brokers, replicationFactor } = this.#fields;
    const count = partitions === brokersOwnNumber ? '' : ` --partitions ${partitions}`;
    const replicas = replicationFactor === undefined ? '' : ` --replication-factor ${replicationFactor}`;
    const settings = Object.entries(config).map(([key, value]) => ` --config ${key}=${value}`);
    const server = brokers.join(',');
    return `kafka-topics.sh --bootstrap-server ${server} --create --topic ${topic}${count}${replicas}${settings.join('')}`;
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof KafkaClientError && error.failure === 'refused';
}

/** A letter topic that keeps more, or larger letters, than ours would is none the worse. */
function isWeaker(given: string | undefined, wanted: string, name: string): boolean {
  if (given === undefined || given === wanted) return false;
  if (name === 'max.message.bytes') return Number(given) < Number(wanted);
  return true;
}
