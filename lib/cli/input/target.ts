import type { KafkaSasl } from '../../kafka/options/options.js';
import { printable } from '../../core/message/text.js';
import { UsageError } from '../usage-error.js';
import { readBrokerUrl } from './broker-url.js';

/** The broker and the source of the dead letters, from the command line and the environment. */
export type Target = RabbitMqTarget | KafkaTarget;

export interface RabbitMqTarget {
  readonly broker: 'rabbitmq';
  readonly url: string;
  readonly queue: string;
  readonly from: string | undefined;
  readonly deliveryLimit: number | undefined;
}

export interface KafkaTarget {
  readonly broker: 'kafka';
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly group: string;
  readonly from: string | undefined;
  readonly ssl: boolean;
  readonly sasl: KafkaSasl | undefined;
}

/** Flags that name the broker, the source and the dead letter queue or topic. */
export interface SourceFlags {
  readonly url?: string;
  readonly queue?: string;
  readonly deliveryLimit?: number;
  readonly brokers?: string;
  readonly topic?: string;
  readonly group?: string;
  readonly ssl?: true;
  readonly saslMechanism?: PasswordMechanism;
  readonly saslUsername?: string;
  readonly from?: string;
}

export type PasswordMechanism = 'plain' | 'scram-sha-256' | 'scram-sha-512';
export type Environment = Readonly<Record<string, string | undefined>>;

const rabbitMqFlags = { url: '--url', queue: '--queue', deliveryLimit: '--delivery-limit' } as const;
const kafkaFlags = {
  brokers: '--brokers',
  topic: '--topic',
  group: '--group',
  ssl: '--ssl',
  saslMechanism: '--sasl-mechanism',
  saslUsername: '--sasl-username',
} as const;

/** @throws UsageError if a flag is missing, or if the flags fit both brokers */
export function readTarget(flags: SourceFlags, env: Environment): Target {
  return brokerOf(flags, env) === 'rabbitmq' ? readRabbitMq(flags, env) : readKafka(flags, env);
}

function brokerOf(flags: SourceFlags, env: Environment): Target['broker'] {
  const rabbitMq = firstGiven(flags, rabbitMqFlags);
  const kafka = firstGiven(flags, kafkaFlags);
  if (rabbitMq !== undefined && kafka !== undefined)
    throw new UsageError(`${rabbitMq} is for RabbitMQ and ${kafka} for Kafka: use one of them`);
  if (rabbitMq !== undefined) return 'rabbitmq';
  if (kafka !== undefined) return 'kafka';
  const hasUrl = isSet(env['RABBITMQ_URL']);
  const hasBrokers = isSet(env['KAFKA_BROKERS']);
  if (hasUrl && hasBrokers)
    throw new UsageError(
      'RABBITMQ_URL and KAFKA_BROKERS are both set. Add --queue <name> for RabbitMQ or --topic <name> for Kafka',
    );
  if (hasUrl) return 'rabbitmq';
  if (hasBrokers) return 'kafka';
  throw new UsageError(
    'no broker is given. Add --url <url> --queue <name> for RabbitMQ or --brokers <list> --topic <name> --group <id> for Kafka, or set RABBITMQ_URL or KAFKA_BROKERS',
  );
}

function readRabbitMq(flags: SourceFlags, env: Environment): RabbitMqTarget {
  const url = flags.url ?? env['RABBITMQ_URL'];
  const queue = flags.queue ?? env['QUEUE_NAME'];
  if (!isSet(url))
    throw new UsageError('RabbitMQ: the server is missing. Add --url <url> or set RABBITMQ_URL');
  if (!isSet(queue))
    throw new UsageError('RabbitMQ: the queue is missing. Add --queue <name> or set QUEUE_NAME');
  // DLQ_NAME is the dead letter queue of QUEUE_NAME, not of a queue given by --queue.
  const paired = flags.queue === undefined ? env['DLQ_NAME'] : undefined;
  const from = flags.from ?? (isSet(paired) ? paired : undefined);
  return {
    broker: 'rabbitmq',
    url: readBrokerUrl(url, flags.url === undefined ? 'RABBITMQ_URL' : '--url'),
    queue,
    from,
    deliveryLimit: flags.deliveryLimit,
  };
}

function readKafka(flags: SourceFlags, env: Environment): KafkaTarget {
  const list = flags.brokers ?? env['KAFKA_BROKERS'];
  const group = flags.group ?? env['KAFKA_GROUP_ID'];
  const { topic, from, ssl = false } = flags;
  if (!isSet(list))
    throw new UsageError('Kafka: the brokers are missing. Add --brokers <host:port,…> or set KAFKA_BROKERS');
  if (!isSet(topic)) throw new UsageError('Kafka: the source topic is missing. Add --topic <name>');
  if (!isSet(group))
    throw new UsageError('Kafka: the consumer group is missing. Add --group <id> or set KAFKA_GROUP_ID');
  const brokers = list.split(',').map((broker) => broker.trim());
  const invalid = brokers.find((broker) => !/^[^\s/:]+:\d{1,5}$/.test(broker));
  if (invalid !== undefined)
    throw new UsageError(
      `Kafka: a broker is given as host:port, not as ${printable(invalid.replace(/.*@/s, '***@'))}`,
    );
  return { broker: 'kafka', brokers, topic, group, from, ssl, sasl: readSasl(flags, env) };
}

function readSasl(flags: SourceFlags, env: Environment): KafkaSasl | undefined {
  const { saslMechanism: mechanism, saslUsername: username } = flags;
  if (mechanism === undefined && username === undefined) return undefined;
  const password = env['KAFKA_SASL_PASSWORD'];
  if (mechanism === undefined) throw new UsageError('--sasl-username needs --sasl-mechanism <name>');
  if (!isSet(username)) throw new UsageError('--sasl-mechanism needs --sasl-username <name>');
  if (!isSet(password))
    throw new UsageError('--sasl-mechanism needs the password in the environment, as KAFKA_SASL_PASSWORD');
  return { mechanism, username, password };
}

/** The first of these flags that is given. */
function firstGiven(flags: SourceFlags, names: Readonly<Record<string, string>>): string | undefined {
  return Object.entries(names).find(([name]) => flags[name as keyof SourceFlags] !== undefined)?.[1];
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value.trim() !== '';
}
