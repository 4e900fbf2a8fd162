import { messageOf } from '../../core/runtime/errors.js';
import { KafkaClientError, type KafkaFailure } from '../client/client.js';

/** Properties of kafkajs errors. */
interface ClientErrorShape {
  readonly name?: unknown;
  readonly type?: unknown;
  readonly cause?: unknown;
  /** `host:port`. */
  readonly broker?: unknown;
  /** Of a request with several items, one for each that failed. */
  readonly errors?: unknown;
}

const byType: Readonly<Record<string, KafkaFailure>> = {
  UNKNOWN_TOPIC_OR_PARTITION: 'unknown-topic',
  INVALID_TOPIC_EXCEPTION: 'unknown-topic',
  MESSAGE_TOO_LARGE: 'too-large',
  RECORD_LIST_TOO_LARGE: 'too-large',
  REQUEST_TIMED_OUT: 'unconfirmed',
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: 'unconfirmed',
  NETWORK_EXCEPTION: 'unconfirmed',
  LEADER_NOT_AVAILABLE: 'unavailable',
  NOT_LEADER_FOR_PARTITION: 'unavailable',
  NOT_ENOUGH_REPLICAS: 'unavailable',
  GROUP_LOAD_IN_PROGRESS: 'unavailable',
  GROUP_COORDINATOR_NOT_AVAILABLE: 'unavailable',
  NOT_COORDINATOR_FOR_GROUP: 'unavailable',
  KAFKA_STORAGE_ERROR: 'unavailable',
  INVALID_PRODUCER_EPOCH: 'fenced',
  PRODUCER_FENCED: 'fenced',
  INVALID_PRODUCER_ID_MAPPING: 'fenced',
  CONCURRENT_TRANSACTIONS: 'unavailable',
  UNSUPPORTED_SASL_MECHANISM: 'refused',
  SASL_AUTHENTICATION_FAILED: 'refused',
  SECURITY_DISABLED: 'refused',
  POLICY_VIOLATION: 'refused',
  INVALID_TIMESTAMP: 'refused',
  INVALID_RECORD: 'refused',
  INVALID_REQUIRED_ACKS: 'refused',
  UNSUPPORTED_FOR_MESSAGE_FORMAT: 'refused',
  INVALID_GROUP_ID: 'refused',
  INCONSISTENT_GROUP_PROTOCOL: 'refused',
  INVALID_SESSION_TIMEOUT: 'refused',
  INVALID_PARTITIONS: 'refused',
  INVALID_REPLICATION_FACTOR: 'refused',
  INVALID_CONFIG: 'refused',
};

const byName: Readonly<Record<string, KafkaFailure>> = {
  KafkaJSSASLAuthenticationError: 'refused',
  KafkaJSNotImplemented: 'unsupported-codec',
  KafkaJSConnectionClosedError: 'unconfirmed',
  KafkaJSRequestTimeoutError: 'unconfirmed',
  KafkaJSConnectionError: 'unavailable',
  KafkaJSBrokerNotFound: 'unavailable',
  KafkaJSMetadataNotLoaded: 'unavailable',
  KafkaJSTopicMetadataNotLoaded: 'unavailable',
  KafkaJSNoBrokerAvailableError: 'unavailable',
  KafkaJSGroupCoordinatorNotFound: 'unavailable',
  KafkaJSLockTimeout: 'unavailable',
};

/** @param otherwise the failure of an error with neither a known type nor a known name */
export function toClientError(error: unknown, otherwise: KafkaFailure): KafkaClientError {
  if (error instanceof KafkaClientError) return error;
  const causes = causesOf(error);
  const failure = causes.map(failureOf).find((known) => known !== undefined) ?? otherwise;
  const [root] = causes;
  const { type } = shapeOf(root);
  const suffix = typeof type === 'string' ? ` (${type})` : '';
  return new KafkaClientError(failure, `${messageOf(root)}${suffix}`, { cause: error });
}

/** The broker to which the connection failed, and whether it accepted the connection and closed it. */
export function brokerConnectionFailure(
  error: unknown,
): { readonly address: string; readonly isClosed: boolean } | undefined {
  for (const cause of causesOf(error)) {
    const { name, broker } = shapeOf(cause);
    if (typeof broker === 'string') {
      return { address: broker, isClosed: name === 'KafkaJSConnectionClosedError' };
    }
  }
  return undefined;
}

/** The Kafka protocol's name of an error, e.g. `UNKNOWN_MEMBER_ID`. */
export function errorType(error: unknown): string | undefined {
  for (const cause of causesOf(error)) {
    const { type } = shapeOf(cause);
    if (typeof type === 'string') return type;
  }
  return undefined;
}

/** The error and its causes, the root cause first: the outer errors only report that retries failed. */
function causesOf(error: unknown): unknown[] {
  const causes: unknown[] = [];
  let cause = error;
  while (typeof cause === 'object' && cause !== null && !causes.includes(cause)) {
    causes.unshift(cause);
    const { cause: next, errors } = cause as ClientErrorShape;
    cause = next ?? (Array.isArray(errors) ? (errors[0] as unknown) : undefined);
  }
  return causes.length === 0 ? [error] : causes;
}

/** Also for thrown values that are no errors. */
function shapeOf(error: unknown): ClientErrorShape {
  return error ?? {};
}

function failureOf(error: unknown): KafkaFailure | undefined {
  const { name, type } = shapeOf(error);
  if (typeof type === 'string') {
    if (type.endsWith('_AUTHORIZATION_FAILED')) return 'refused';
    if (type in byType) return byType[type];
  }
  return typeof name === 'string' ? byName[name] : undefined;
}
