import { messageOf, StorkConfigError, type ConfigProblem } from '../../core/runtime/errors.js';
import { sourceOfDeadLetterTopic } from '../../driver-kit/log/topic-names.js';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import { KafkaClientError, type KafkaAdmin, type TopicToCreate } from '../client/client.js';
import { deadLetterTopicConfig, isWeaker, managedTopicsOf, type ManagedTopic } from './managed-topics.js';
import type { RetryTopics } from './retry-topics.js';

export interface TopologyFields {
  readonly admin: KafkaAdmin;
  readonly brokers: readonly string[];
  /** Name of the transport, for messages. */
  readonly name: string;
  /** Of source topics; undefined: the broker's `num.partitions`. */
  readonly partitions: number | undefined;
  readonly replicationFactor: number | undefined;
  readonly logger: StorkLogger;
}

/** Protocol value for the broker's `num.partitions`. */
const brokerDefault = -1;

interface TopicLookup {
  /** Partition counts of the topics that exist. */
  readonly partitionCounts: ReadonlyMap<string, number>;
  /** Topics that may not be described, with the broker's reason. */
  readonly refused: ReadonlyMap<string, string>;
}

/** A topic as it is to be created. */
export type TopicDefinition = Omit<TopicToCreate, 'replicationFactor'>;

/**
 * Creates the topics that a subscription needs: source topics, and their dead letter topics and retry
 * topics. What it may not create it reports with the command that does. An existing topic is never changed;
 * a weaker one is logged.
 */
export class Topology {
  readonly #fields: TopologyFields;
  readonly #created = new Set<string>();

  constructor(fields: TopologyFields) {
    this.#fields = fields;
  }

  /** Whether this process created the topic: all of its records are then newer than the process. */
  hasCreated(topic: string): boolean {
    return this.#created.has(topic);
  }

  /**
   * @param targets dead letter topics that handlers name
   * @throws StorkConfigError with the commands that create the topics which could not be created
   */
  async declare(
    sources: readonly string[],
    retries: RetryTopics,
    targets: readonly string[] = [],
  ): Promise<void> {
    const { partitionCounts, refused } = await this.#lookUp(sources);
    if (refused.size > 0) throw new StorkConfigError(await this.#problemsOf(refused));
    const problems: ConfigProblem[] = [];
    for (const topic of sources) {
      if (!partitionCounts.has(topic))
        problems.push(...(await this.#create(await this.#sourceDefinition(topic))));
    }
    problems.push(...(await this.#declareManagedTopics(sources, retries, targets)));
    if (problems.length > 0) throw new StorkConfigError(problems);
  }

  /**
   * Creates missing dead letter topics and retry topics while the transport runs, for source topics that
   * were found later, or after a topic was deleted. Failures are only logged: the next publish to such a
   * topic reports them.
   */
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
    // Requests time out within minutes: older replies have no caller left.
    const config = { 'cleanup.policy': 'delete', 'retention.ms': String(3_600_000) };
    await this.declareTopic({ topic, partitions, config });
  }

  /**
   * Creates the topic unless it exists, with whatever configuration.
   *
   * @throws StorkConfigError with the command that creates it
   */
  async declareTopic(definition: TopicDefinition): Promise<void> {
    if ((await this.partitionsOf(definition)) !== undefined) return;
    const problems = await this.#create(definition);
    if (problems.length > 0) throw new StorkConfigError(problems);
  }

  /**
   * Partition count; undefined if the topic does not exist.
   *
   * @throws StorkConfigError with the command that creates the topic, if it may not be described
   */
  async partitionsOf(definition: TopicDefinition): Promise<number | undefined> {
    const { partitionCounts, refused } = await this.#lookUp([definition.topic]);
    const why = refused.get(definition.topic);
    if (why !== undefined) throw new StorkConfigError([this.#notDescribable(definition, why)]);
    return partitionCounts.get(definition.topic);
  }

  /**
   * One topic that may not be described makes kafkajs reject the whole metadata request without naming the
   * topic: the topics are then looked up one by one.
   */
  async #lookUp(topics: readonly string[]): Promise<TopicLookup> {
    const { admin } = this.#fields;
    try {
      return { partitionCounts: await admin.partitionCounts(topics), refused: new Map() };
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    const partitionCounts = new Map<string, number>();
    const refused = new Map<string, string>();
    for (const topic of topics) {
      try {
        for (const [found, count] of await admin.partitionCounts([topic])) partitionCounts.set(found, count);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        refused.set(topic, messageOf(error));
      }
    }
    return { partitionCounts, refused };
  }

  async #problemsOf(refused: TopicLookup['refused']): Promise<readonly ConfigProblem[]> {
    return Promise.all(
      [...refused].map(async ([topic, why]) =>
        this.#notDescribable(await this.#sourceDefinition(topic), why),
      ),
    );
  }

  #notDescribable(definition: TopicDefinition, why: string): ConfigProblem {
    return {
      name: `topic ${definition.topic} of the transport ${JSON.stringify(this.#fields.name)}`,
      expected: `to exist, with permission to describe and read it: ${this.#createCommand(definition)}`,
      given: why,
    };
  }

  async #declareManagedTopics(
    sources: readonly string[],
    retries: RetryTopics,
    targets: readonly string[],
  ): Promise<readonly ConfigProblem[]> {
    const required = await Promise.all(
      sources.map(async (source) => {
        const managedTopics = managedTopicsOf(source, retries, await this.#maxMessageBytes(source), targets);
        return managedTopics.map((managedTopic) => ({ source, managedTopic }));
      }),
    );
    const unique = uniqueByTopic(required.flat());
    const lookup = await this.#lookUp([...sources, ...unique.map(({ managedTopic }) => managedTopic.topic)]);
    const problems = await Promise.all(
      unique.map(({ source, managedTopic }) =>
        this.#declareManagedTopic(managedTopic, lookup.partitionCounts.get(source), lookup),
      ),
    );
    return problems.flat();
  }

  /** @param partitions of the source topic; undefined if that was deleted and needs no other topics */
  async #declareManagedTopic(
    managedTopic: ManagedTopic,
    partitions: number | undefined,
    { partitionCounts, refused }: TopicLookup,
  ): Promise<readonly ConfigProblem[]> {
    const { topic, config } = managedTopic;
    const why = refused.get(topic);
    if (partitionCounts.has(topic)) await this.#warnIfWeaker(managedTopic);
    else if (partitions === undefined) return [];
    else if (why !== undefined) return [this.#notDescribable({ topic, partitions, config }, why)];
    else return this.#create({ topic, partitions, config });
    return [];
  }

  async #maxMessageBytes(topic: string): Promise<number | undefined> {
    const { 'max.message.bytes': text } = await this.#configOf(topic);
    return text === undefined ? undefined : Number(text);
  }

  /** Empty without permission to describe the configuration. */
  #configOf(topic: string): Promise<Readonly<Record<string, string>>> {
    return this.#fields.admin.topicConfig(topic).catch(() => ({}));
  }

  /** An existing topic may delete records too early, or refuse large ones. */
  async #warnIfWeaker({ topic, kind, risk, config }: ManagedTopic): Promise<void> {
    const { logger, name, brokers } = this.#fields;
    const given = await this.#configOf(topic);
    const weaker = Object.entries(config).filter(([setting, wanted]) =>
      isWeaker(setting, given[setting], wanted),
    );
    if (weaker.length === 0) return;
    const settings = weaker.map(([setting, wanted]) => `${setting}=${wanted}`).join(',');
    logger.warn(
      `${name}: the ${kind} ${topic} ${risk}; ` +
        `kafka-configs.sh --bootstrap-server ${brokers[0]} --alter --topic ${topic} --add-config ${settings}`,
    );
  }

  /** Succeeds, too, if another process creates the topic at the same time. */
  async #create(definition: TopicDefinition): Promise<readonly ConfigProblem[]> {
    const { admin, replicationFactor, logger, name } = this.#fields;
    const { topic } = definition;
    try {
      await admin.createTopics([{ ...definition, replicationFactor }]);
      this.#created.add(topic);
      logger.log(`${name}: created the topic ${topic}`);
      return [];
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return [
        {
          name: `topic ${topic} of the transport ${JSON.stringify(name)}`,
          expected: `to exist: ${this.#createCommand(definition)}`,
          given: `none, and the broker refused to create it: ${messageOf(error)}`,
        },
      ];
    }
  }

  /**
   * A consumed dead letter topic may be declared before its source topic's consumers start: it gets the
   * same configuration.
   */
  async #sourceDefinition(topic: string): Promise<TopicDefinition> {
    const source = sourceOfDeadLetterTopic(topic);
    const config = source === undefined ? {} : deadLetterTopicConfig(await this.#maxMessageBytes(source));
    return { topic, partitions: this.#fields.partitions ?? brokerDefault, config };
  }

  #createCommand({ topic, partitions, config }: TopicDefinition): string {
    const { brokers, replicationFactor } = this.#fields;
    const count = partitions === brokerDefault ? '' : ` --partitions ${partitions}`;
    const replicas = replicationFactor === undefined ? '' : ` --replication-factor ${replicationFactor}`;
    const settings = Object.entries(config).map(([key, value]) => ` --config ${key}=${value}`);
    const server = brokers.join(',');
    return `kafka-topics.sh --bootstrap-server ${server} --create --topic ${topic}${count}${replicas}${settings.join('')}`;
  }
}

/** Sources may share a dead letter topic: it gets the largest `max.message.bytes` of them. */
function uniqueByTopic<Required extends { readonly managedTopic: ManagedTopic }>(
  required: readonly Required[],
): Required[] {
  const byTopic = new Map<string, Required>();
  for (const one of required) {
    const known = byTopic.get(one.managedTopic.topic);
    if (known === undefined || maxMessageBytesOf(known.managedTopic) < maxMessageBytesOf(one.managedTopic))
      byTopic.set(one.managedTopic.topic, one);
  }
  return [...byTopic.values()];
}

function maxMessageBytesOf({ config }: ManagedTopic): number {
  return Number(config['max.message.bytes'] ?? 0);
}

function isRefusal(error: unknown): boolean {
  return error instanceof KafkaClientError && error.failure === 'refused';
}
