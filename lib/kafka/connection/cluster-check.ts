import { connect as connectSocket } from 'node:net';
import { messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import type { DriverEnvironment } from '../../nest/bootstrap/transport-definition.js';
import { KafkaClientError, type KafkaAdmin } from '../client/client.js';
import { kafkaDefaults } from '../options/defaults.js';
import type { KafkaOptions } from '../options/options.js';
import { unreachableAdvertisedText } from './explain-errors.js';

/** Rejects if the cluster does not have the id `clusterId`, or this host reaches none of its brokers. */
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
  const addresses = await admin.advertisedAddresses();
  const unreachable = await findUnreachable(addresses, options);
  if (unreachable.length === 0) return;
  const why = unreachableAdvertisedText(unreachable, options);
  if (unreachable.length === addresses.length) throw new KafkaClientError('unavailable', why);
  logger.warn(`${name}: ${why}`);
}

/**
 * Connects to each advertised address. Brokers that advertise an address which this host cannot reach are a
 * common set-up error: the bootstrap connection succeeds, and later requests fail without a named cause.
 */
async function findUnreachable(
  addresses: readonly string[],
  { connectTimeoutMs = kafkaDefaults.connectTimeoutMs, brokers = [] }: KafkaOptions,
): Promise<readonly string[]> {
  const failures = await Promise.all(
    addresses.map(async (address) => {
      if (brokers.includes(address)) return undefined;
      const error = await probe(address, connectTimeoutMs);
      return error === undefined ? undefined : `${address} (${error})`;
    }),
  );
  return failures.filter((failure) => failure !== undefined);
}

/** Why the address cannot be reached; undefined if it can. */
function probe(address: string, limitMs: number): Promise<string | undefined> {
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
