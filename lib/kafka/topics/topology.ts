import { messageOf, StorkConfigError, type ConfigProblem } from '../../core/runtime/errors.js';
import { sourceOfDeadLetterTopic } from '../../driver-kit/log/topic-names.js';
import type { StorkLogger } from '../../core/runtime/logger.js';
import { KafkaClientError, type KafkaAdmin, type TopicToCreate } from '../client/client.js';
import { managedTopicsOf, isWeaker, deadLetterTopicConfig, type ManagedTopic } from './managed-topics.js';
import type { RetryTopics } from './retry-topics.js';

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

const brokersOwnNumber = -1;

/** Topics by name: partitions of those that are there, and why we may not know of others. */
interface Found {
  readonly there: ReadonlyMap<string, number>;
  readonly refused: ReadonlyMap<string, string>;
}

/** A topic as it should be made. */
export type WantedTopic = Omit<TopicToCreate, 'replicationFactor'>;

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
  async declare(
    sources: readonly string[],
    retries: RetryTopics,
    targets: readonly string[] = [],
  ): Promise<void> {
    const { there, refused } = await this.#lookFor(sources);
    if (refused.size > 0) throw new StorkConfigError(await this.#problemsOf(refused));
    const problems: ConfigProblem[] = [];
    for (const topic of sources) {
      if (!there.has(topic)) problems.push(...(await this.#create(await this.#source(topic))));
    }
    problems.push(...(await this.#declareManagedTopics(sources, retries, targets)));
    if (problems.length > 0) throw new StorkConfigError(problems);
  }

  /** Makes what is missing beside topics that were found later, or that was gone. What cannot be made is told by whoever writes to it. */
  async declareManagedTopics(
    sources: readonly string[],
    retries: RetryTopics,
    targets: readonly string[] = [],
  ): Promise<void> {
    const problems = await this.#declareManagedTopics(sources, retries, targets);
    for (const { name, expected } of problems)
      this.#fields.logger.error(`${this.#fields.name}: ${name}: ${expected}`);
  }

  async declareReplies(topic: string, partitions: number): Promise<void> {
    // A reply that nobody has fetched within minutes is of nobody's interest.
    const config = { 'cleanup.policy': 'delete', 'retention.ms': String(3_600_000) };
    await this.declareTopic({ topic, partitions, config });
  }

  /** Makes the topic unless it is there, however it is set up. @throws StorkConfigError with the command that makes it */
  async declareTopic(wanted: WantedTopic): Promise<void> {
    if ((await this.partitionsOf(wanted)) !== undefined) return;
    const problems = await this.#create(wanted);
    if (problems.length > 0) throw new StorkConfigError(problems);
  }

  /** How many it has; undefined where there is no such topic. @throws StorkConfigError with the command that makes it, where we may not know */
  async partitionsOf(wanted: WantedTopic): Promise<number | undefined> {
    const { there, refused } = await this.#lookFor([wanted.topic]);
    const why = refused.get(wanted.topic);
    if (why !== undefined) throw new StorkConfigError([this.#unknown(wanted, why)]);
    return there.get(wanted.topic);
  }

  /** Partitions of those that exist. One topic that we may not know of fails the question for all of them, and is not named. */
  async #lookFor(topics: readonly string[]): Promise<Found> {
    const { admin } = this.#fields;
    try {
      return { there: await admin.partitionCounts(topics), refused: new Map() };
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    const there = new Map<string, number>();
    const refused = new Map<string, string>();
    for (const topic of topics) {
      try {
        for (const [found, count] of await admin.partitionCounts([topic])) there.set(found, count);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        refused.set(topic, messageOf(error));
      }
    }
    return { there, refused };
  }

  async #problemsOf(refused: Found['refused']): Promise<readonly ConfigProblem[]> {
    return Promise.all(
      [...refused].map(async ([topic, why]) => this.#unknown(await this.#source(topic), why)),
    );
  }

  #unknown(wanted: WantedTopic, why: string): ConfigProblem {
    return {
      name: `topic ${wanted.topic} of the transport ${JSON.stringify(this.#fields.name)}`,
      expected: `the right to describe and read it, and that it exists: ${this.#command(wanted)}`,
      given: why,
    };
  }

  async #declareManagedTopics(
    sources: readonly string[],
    retries: RetryTopics,
    targets: readonly string[],
  ): Promise<readonly ConfigProblem[]> {
    const wanted = await Promise.all(
      sources.map(async (source) => {
        const managedTopics = managedTopicsOf(source, retries, await this.#maxMessageBytes(source), targets);
        return managedTopics.map((managedTopic) => ({ source, managedTopic }));
      }),
    );
    const managedTopics = eachOnce(wanted.flat());
    const found = await this.#lookFor([
      ...sources,
      ...managedTopics.map(({ managedTopic }) => managedTopic.topic),
    ]);
    const problems = await Promise.all(
      managedTopics.map(({ source, managedTopic }) =>
        this.#declareManagedTopic(managedTopic, found.there.get(source), found),
      ),
    );
    return problems.flat();
  }

  /** @param partitions of its source; undefined where that is gone: then it has no need of companions */
  async #declareManagedTopic(
    managedTopic: ManagedTopic,
    partitions: number | undefined,
    { there, refused }: Found,
  ): Promise<readonly ConfigProblem[]> {
    const { topic, config } = managedTopic;
    const why = refused.get(topic);
    if (there.has(topic)) await this.#warnOfWeaker(managedTopic);
    else if (partitions === undefined) return [];
    else if (why !== undefined) return [this.#unknown({ topic, partitions, config }, why)];
    else return this.#create({ topic, partitions, config });
    return [];
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
  async #warnOfWeaker({ topic, what, risk, config }: ManagedTopic): Promise<void> {
    const { logger, name, brokers } = this.#fields;
    const given = await this.#configOf(topic);
    const weaker = Object.entries(config).filter(([key, value]) => isWeaker(given[key], value, key));
    if (weaker.length === 0) return;
    const settings = weaker.map(([key, value]) => `${key}=${value}`).join(',');
    logger.warn(
      `${name}: the ${what} ${topic} ${risk}; ` +
        `kafka-configs.sh --bootstrap-server ${brokers[0]} --alter --topic ${topic} --add-config ${settings}`,
    );
  }

  /** Somebody else may make it in the same moment: that is as good. */
  async #create(wanted: WantedTopic): Promise<readonly ConfigProblem[]> {
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
  async #source(topic: string): Promise<WantedTopic> {
    const source = sourceOfDeadLetterTopic(topic);
    const config = source === undefined ? {} : deadLetterTopicConfig(await this.#maxMessageBytes(source));
    return { topic, partitions: this.#fields.partitions ?? brokersOwnNumber, config };
  }

  #command({ topic, partitions, config }: WantedTopic): string {
    const { brokers, replicationFactor } = this.#fields;
    const count = partitions === brokersOwnNumber ? '' : ` --partitions ${partitions}`;
    const replicas = replicationFactor === undefined ? '' : ` --replication-factor ${replicationFactor}`;
    const settings = Object.entries(config).map(([key, value]) => ` --config ${key}=${value}`);
    const server = brokers.join(',');
    return `kafka-topics.sh --bootstrap-server ${server} --create --topic ${topic}${count}${replicas}${settings.join('')}`;
  }
}

/** Sources may share where their letters go: it has room for the largest. */
function eachOnce<Wanted extends { readonly managedTopic: ManagedTopic }>(
  wanted: readonly Wanted[],
): Wanted[] {
  const byTopic = new Map<string, Wanted>();
  for (const one of wanted) {
    const known = byTopic.get(one.managedTopic.topic);
    if (known === undefined || roomOf(known.managedTopic) < roomOf(one.managedTopic))
      byTopic.set(one.managedTopic.topic, one);
  }
  return [...byTopic.values()];
}

function roomOf({ config }: ManagedTopic): number {
  return Number(config['max.message.bytes'] ?? 0);
}

function isRefusal(error: unknown): boolean {
  return error instanceof KafkaClientError && error.failure === 'refused';
}
