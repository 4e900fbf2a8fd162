import { connect as connectSocket } from 'node:net';
import { ConnectionLostError, messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import type { DriverEnvironment } from '../../nest/bootstrap/transport-definition.js';
import { connectionTrouble, errorType } from '../kafkajs/errors.js';
import { KafkaClientError, type KafkaAdmin } from '../client/client.js';
import { kafkaDefaults, type KafkaOptions } from '../options/options.js';

/** Rejects where the cluster is another than the one that was named, or where none of its brokers can be reached from here. */
export async function checkCluster(
  admin: KafkaAdmin,
  options: KafkaOptions,
  { name, logger }: DriverEnvironment,
): Promise<void> {
  const { clusterId } = options;
  if (clusterId !== undefined) {
    const given = await admin.clusterId();
    if (given !== clusterId) {
      throw new StorkConfigError([{ name: `transports.${name}.clusterId`, expected: clusterId, given }]);
    }
  }
  const addresses = await admin.advertised();
  const unreachable = await findUnreachable(addresses, options);
  if (unreachable.length === 0) return;
  const why = isAdvertised(unreachable, options);
  if (unreachable.length === addresses.length) throw new KafkaClientError('unavailable', why);
  logger.warn(`${name}: ${why}`);
}

/**
 * Why it could not be connected to, in words that tell what to change: the client's own name an address, not what is wrong with it. A
 * `StorkConfigError` where trying again is of no use.
 */
export function explain(error: unknown, options: KafkaOptions, name: string): Error {
  if (error instanceof StorkConfigError) return error;
  if (error instanceof KafkaClientError && error.failure === 'refused') {
    return new StorkConfigError(`${name}: the brokers refuse us: ${messageOf(error)}`, { cause: error });
  }
  const { brokers = [], sasl } = options;
  const { address, isClosed } = connectionTrouble(error) ?? {};
  if (address !== undefined && !brokers.includes(address)) {
    return new KafkaClientError('unavailable', isAdvertised([`${address} (${messageOf(error)})`], options));
  }
  if (isClosed === true) {
    const wanted = sasl === undefined ? 'ssl or sasl' : 'ssl';
    const why = `${address} takes connections and closes them; it may want ${wanted}`;
    return new KafkaClientError('unavailable', why, { cause: error });
  }
  return error instanceof Error ? error : new KafkaClientError('unavailable', messageOf(error));
}

/** The same of joining a group. */
export function explainGroup(error: unknown, group: string, name: string): unknown {
  if (!(error instanceof KafkaClientError) || error.failure !== 'refused') return error;
  const isForeign = errorType(error) === 'INCONSISTENT_GROUP_PROTOCOL';
  const advice = isForeign
    ? '; its members divide partitions in another way: stop them first, or take another groupId'
    : '';
  const why = `${name}: the group ${JSON.stringify(group)} refuses us: ${error.message}${advice}`;
  return new StorkConfigError(why, { cause: error });
}

/** The same of reading replies, for whoever asks. */
export function explainReplies(error: unknown, topic: string, name: string): unknown {
  if (!(error instanceof KafkaClientError)) return error;
  const why = `${name}: replies cannot be read from ${JSON.stringify(topic)}: ${error.message}`;
  const options = { cause: error };
  return error.failure === 'refused'
    ? new StorkConfigError(why, options)
    : new ConnectionLostError(why, options);
}

/** The usual trap of a first set-up: the brokers name addresses that are not ours to reach, and every later call fails far away. */
async function findUnreachable(
  addresses: readonly string[],
  { connectTimeoutMs = kafkaDefaults.connectTimeoutMs, brokers = [] }: KafkaOptions,
): Promise<readonly string[]> {
  const refusals = await Promise.all(
    addresses.map(async (address) => {
      if (brokers.includes(address)) return undefined;
      const error = await reach(address, connectTimeoutMs);
      return error === undefined ? undefined : `${address} (${error})`;
    }),
  );
  return refusals.filter((refusal) => refusal !== undefined);
}

function isAdvertised(unreachable: readonly string[], { brokers = [] }: KafkaOptions): string {
  return (
    `${brokers.join(', ')} can be reached, but the brokers name themselves by addresses that cannot: ` +
    `${unreachable.join(', ')}. They come from the brokers' advertised.listeners`
  );
}

/** Why an address cannot be reached; undefined where it can. */
function reach(address: string, limitMs: number): Promise<string | undefined> {
  const colon = address.lastIndexOf(':');
  const [host, port] = [address.slice(0, colon), Number(address.slice(colon + 1))];
  return new Promise((resolve) => {
    const socket = connectSocket({ host, port, timeout: limitMs });
    const end = (why: string | undefined): void => {
      socket.destroy();
      resolve(why);
    };
    socket.once('connect', () => end(undefined));
    socket.once('timeout', () => end(`no answer within ${limitMs} ms`));
    socket.once('error', (error) => end(messageOf(error)));
  });
}
