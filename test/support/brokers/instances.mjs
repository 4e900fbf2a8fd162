import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkLogin } from './kafka-settings.mjs';
import { freePorts } from './ports.mjs';

/** Everything that is installed, stored and logged here lies in this folder. */
export const home = fileURLToPath(new URL('../../../.brokers/', import.meta.url));

/**
 * @typedef {'rabbitmq' | 'kafka' | 'redis'} BrokerName
 * @typedef {{ rabbitmq?: string | undefined, kafka?: string | undefined }} Options Versions, where one is
 * wanted.
 *
 * One server: which, on which port, with its data where.
 * @typedef {object} Instance
 * @property {string} id Its name in the state file.
 * @property {BrokerName} broker
 * @property {string | undefined} version The one that was asked for; undefined takes what there is.
 * @property {number} port
 * @property {number} innerPort Erlang's distribution, Kafka's controller.
 * @property {string} folder
 * @property {boolean} isThrowAway
 * @property {readonly string[]} config More lines for the configuration file.
 * @property {import('./kafka-settings.mjs').KafkaLayout | undefined} [kafka]
 *
 * @typedef {object} ThrowAwayOptions
 * @property {number | undefined} [port]
 * @property {string | undefined} [version]
 * @property {readonly string[] | undefined} [config]
 * @property {{ port: number, address: string } | undefined} [proxied]
 * @property {{ user: string, password: string } | undefined} [sasl]
 */

/** @type {readonly BrokerName[]} */
export const brokerNames = ['rabbitmq', 'kafka', 'redis'];

/** Distance from the broker's own port. @type {Record<BrokerName, number>} */
const innerPorts = { rabbitmq: 20_000, kafka: 1, redis: 0 };

/**
 * The versions that can be had, by what one may call them, each with the server that it is: a second version
 * lives beside the usual one, on a port of its own.
 * @type {Record<BrokerName, { port: number, versions: Record<string, { id: string, version: string, port:
 * number }> }>}
 */
const known = {
  rabbitmq: {
    port: 5672,
    versions: {
      3: { id: 'rabbitmq', version: '3', port: 5672 },
      '3.10': { id: 'rabbitmq', version: '3.10', port: 5672 },
      4: { id: 'rabbitmq-4', version: '4', port: 5682 },
      '4.0': { id: 'rabbitmq-4', version: '4', port: 5682 },
    },
  },
  kafka: {
    port: 9092,
    versions: {
      4: { id: 'kafka', version: '4.1', port: 9092 },
      4.1: { id: 'kafka', version: '4.1', port: 9092 },
      3: { id: 'kafka-3.9', version: '3.9', port: 9192 },
      3.9: { id: 'kafka-3.9', version: '3.9', port: 9192 },
    },
  },
  redis: { port: 6379, versions: {} },
};

/**
 * The shared server.
 * @param {BrokerName} broker
 * @param {Options} [options]
 * @returns {Instance}
 */
export function instanceOf(broker, options = {}) {
  const { port: usualPort, versions } = known[broker];
  const asked = broker === 'redis' ? undefined : options[broker];
  const { id, version, port } =
    asked === undefined ? { id: broker, version: undefined, port: usualPort } : pick(broker, asked, versions);
  const innerPort = port + innerPorts[broker];
  return { id, broker, version, port, innerPort, folder: join(home, id), isThrowAway: false, config: [] };
}

/**
 * Every possible shared server.
 * @returns {Instance[]}
 */
export function knownInstances() {
  return [
    ...brokerNames.map((name) => instanceOf(name)),
    instanceOf('rabbitmq', { rabbitmq: '4' }),
    instanceOf('kafka', { kafka: '3.9' }),
  ];
}

/**
 * A server for one test alone.
 * @param {BrokerName} broker
 * @param {ThrowAwayOptions} options
 * @returns {Promise<Instance>}
 */
export async function throwAwayInstance(broker, { port, version, config = [], proxied, sasl }) {
  const wanted = instanceOf(broker, { [broker]: version }).version;
  for (const [name, value] of Object.entries({ proxied, sasl }))
    if (value && broker !== 'kafka')
      throw new TypeError(`${name}: expected nothing, ${broker} has no such thing`);
  if (sasl) checkLogin(sasl);
  const [free, innerPort, openPort] = await threePorts();
  const own = port ?? free;
  const id = `throw-away-${broker}-${own}`;
  const kafka = { ...(proxied && { proxied }), ...(sasl && { sasl: { ...sasl, openPort } }) };
  return {
    id,
    broker,
    version: wanted,
    port: own,
    innerPort,
    folder: join(home, id),
    isThrowAway: true,
    config,
    ...(Object.keys(kafka).length > 0 && { kafka }),
  };
}

async function threePorts() {
  return /** @type {[number, number, number]} */ (await freePorts(3));
}

/**
 * Compares as far as both are known: `4` is `4.0.5`, `4.1` is not.
 * @param {string | undefined} version
 * @param {string | undefined} wanted
 */
export function isVersion(version, wanted) {
  if (version === undefined || wanted === undefined) return true;
  const parts = version.split('.');
  return wanted.split('.').every((part, i) => parts[i] === undefined || parts[i] === part);
}

/**
 * @template T
 * @param {BrokerName} broker
 * @param {string} asked
 * @param {Record<string, T>} versions
 * @returns {T}
 */
function pick(broker, asked, versions) {
  const found = Object.hasOwn(versions, asked) ? versions[asked] : undefined;
  if (!found) throw new TypeError(`no ${broker} ${asked} here, only ${Object.keys(versions).join(', ')}`);
  return found;
}
