import { brokers } from './kinds.mjs';
import { isVersion } from './instances.mjs';
import { isListening } from './ports.mjs';

/** @type {Record<string, number>} */
const usualPorts = { 'amqp:': 5672, 'amqps:': 5671, 'redis:': 6379, 'rediss:': 6379 };

/**
 * The server that the environment names, which is never started or stopped here.
 * @typedef {{ url: string, addresses: import('./probes.mjs').Address[], isSecure: boolean }} Given
 */

/**
 * @param {import('./instances.mjs').BrokerName} broker
 * @returns {Given | undefined}
 */
export function givenAddress(broker) {
  const url = process.env[brokers[broker].variable];
  if (!url) return undefined;
  return { url, ...readAddress(broker, url) };
}

/**
 * @param {import('./instances.mjs').BrokerName} broker
 * @param {string} text
 */
export function readAddress(broker, text) {
  const urls = text
    .split(',')
    .map((each) => new URL(broker === 'kafka' ? `kafka://${each.trim()}` : each.trim()));
  const addresses = urls.map(({ hostname, port, protocol }) => ({
    host: hostname.replace(/^\[(.*)\]$/, '$1') || '127.0.0.1',
    port: Number(port) || (usualPorts[protocol] ?? 9092),
  }));
  return {
    addresses,
    isSecure: urls.some(({ protocol }) => protocol === 'amqps:' || protocol === 'rediss:'),
  };
}

/**
 * Whether it answers. One that talks only over TLS, or only after a login, is taken at its port.
 * @param {import('./instances.mjs').Instance} instance
 * @param {Given} given
 * @returns {Promise<import('./probes.mjs').Answer | undefined>}
 */
export async function askGiven({ broker }, { addresses, isSecure }) {
  for (const address of addresses) {
    const answer = isSecure ? undefined : await brokers[broker].probe(address);
    if (answer) return answer;
    const mayBeHidden = isSecure || broker === 'kafka';
    if (mayBeHidden && (await isListening(address.port, address.host))) return { version: undefined };
  }
  return undefined;
}

/**
 * One of another version than the one that is wanted does not count as given.
 * @param {import('./instances.mjs').Instance} instance
 * @param {import('./probes.mjs').Answer | undefined} answer
 */
export function fits(instance, answer) {
  return isVersion(answer?.version, instance.version);
}
