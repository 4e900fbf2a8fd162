import type { StorkClock } from '../../core/runtime/clock.js';
import { withTimeout } from '../../core/runtime/with-timeout.js';
import { Counters, type StorkLogger } from '../../core/runtime/reporting.js';
import type { DeadLetterStore } from '../../core/port/dead-letter-store.js';
import type { Driver } from '../../core/port/driver.js';
import { ConnectionLostError, StorkConfigError, type ConfigProblem } from '../../core/runtime/errors.js';
import type { TransportDefinition } from '../../nest/bootstrap/transport-definition.js';
import { shownAddress } from '../../core/message/text.js';
import type { KafkaTarget, RabbitMqTarget, Target } from './target.js';
import { UsageError } from '../usage-error.js';

/**
 * Opens the dead letter store of a target. Rejects if the broker, the queue or the topic is not
 * available.
 */
export type OpenStore = (target: Target, fields: OpenFields) => Promise<OpenedStore>;

export interface OpenFields {
  readonly clock: StorkClock;
  /** Prints the driver's warnings and errors; its other log lines are dropped. */
  readonly warn: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface OpenedStore {
  readonly store: DeadLetterStore;
  /** Closes the store and the connection. */
  readonly close: () => Promise<void>;
}

/** Time limit for connecting and opening the store. */
const openLimitMs = 10_000;
const closeLimitMs = 5_000;
/** Nothing was read yet, so nothing has to be requeued. */
const failedOpenCloseLimitMs = 500;

export const openStore: OpenStore = async (target, fields) => {
  const definition = await definitionOf(target);
  // An interruption while the modules were loaded.
  fields.signal.throwIfAborted();
  const driver = definition.createDriver({
    name: 'dlq',
    clock: fields.clock,
    logger: quietLogger(fields.warn),
    counters: new Counters(),
    shared: new Map(),
  });
  try {
    const store = await open(driver, target, fields);
    return { store, close: () => driver.close(closeLimitMs) };
  } catch (error) {
    await driver.close(failedOpenCloseLimitMs);
    throw error;
  }
};

async function open(driver: Driver, target: Target, { clock, signal }: OpenFields): Promise<DeadLetterStore> {
  const timeout = new AbortController();
  const noAnswer = `no answer within ${openLimitMs / 1_000} s`;
  const cancel = clock.setTimer(openLimitMs, () => timeout.abort(new ConnectionLostError(noAnswer)));
  const stop = AbortSignal.any([signal, timeout.signal]);
  const { from } = target;
  const location =
    target.broker === 'rabbitmq'
      ? { from, source: target.queue, deliveryLimit: target.deliveryLimit }
      : { from, source: target.topic };
  try {
    // On the time limit the driver's own error names the cause; an interruption does not wait for it.
    await withTimeout(driver.connect(stop), { signal });
    return await withTimeout(driver.deadLetters(location), { signal: stop });
  } catch (error) {
    // Any other error comes from the driver and is more specific than the time limit.
    if (error === timeout.signal.reason) throw new ConnectionLostError(`${addressOf(target)}: ${noAnswer}`);
    if (!(error instanceof StorkConfigError) || error.problems.length === 0) throw error;
    throw new StorkConfigError(problemLines(error.problems, target), { cause: error });
  } finally {
    cancel();
  }
}

/** Validated. The broker's client library is imported lazily, so that `--help` starts fast. */
async function definitionOf(target: Target): Promise<TransportDefinition> {
  const definition =
    target.broker === 'rabbitmq' ? await rabbitMqDefinition(target) : await kafkaDefinition(target);
  const problems = definition.validate('dlq');
  if (problems.length === 0) return definition;
  throw new UsageError(problemLines(problems, target));
}

async function rabbitMqDefinition({ url, queue }: RabbitMqTarget): Promise<TransportDefinition> {
  const { rabbitmq } = await import('../../rabbitmq/rabbitmq.js');
  return rabbitmq({ url, queue });
}

async function kafkaDefinition(target: KafkaTarget): Promise<TransportDefinition> {
  const { kafka } = await import('../../kafka/kafka.js');
  const { brokers, group: groupId, topic, ssl, sasl } = target;
  return kafka({ brokers, groupId, topic, ssl, sasl, clientId: 'nestjs-stork-dlq' });
}

function problemLines(problems: readonly ConfigProblem[], target: Target): string {
  const lines = problems.map(
    ({ name, expected, given }) => `${flagOf(name, target)}: expected ${expected}, given ${given}`,
  );
  return lines.join('\n');
}

/** The command line flag of a transport option or a location field. */
function flagOf(name: string, { broker }: Target): string {
  const option = name.slice(name.lastIndexOf('.') + 1);
  if (option === 'source') return broker === 'rabbitmq' ? '--queue' : '--topic';
  return option === 'groupId' ? '--group' : `--${option}`;
}

function addressOf(target: Target): string {
  return target.broker === 'rabbitmq'
    ? `RabbitMQ at ${shownAddress(target.url)}`
    : `Kafka at ${target.brokers.join(', ')}`;
}

function quietLogger(warn: (line: string) => void): StorkLogger {
  return { debug: () => {}, log: () => {}, warn, error: warn };
}
