import { parseArgs } from 'node:util';
import { brokerNames, instanceOf } from './instances.mjs';

export const usage = `npm run brokers -- up|down|status [rabbitmq] [kafka] [redis] [--rabbitmq 3.10|4] [--kafka 4.1|3.9] [--purge]

  up       brings the named brokers up, all three when none is named, and says where they are
  down     ends what up has started; --purge removes its data too
  status   tells which are up; the exit code is 0 when all of them are`;

/**
 * @typedef {object} Arguments
 * @property {'up' | 'down' | 'status'} command
 * @property {import('./instances.mjs').BrokerName[]} names Those that were asked for, all when none was.
 * @property {boolean} isAll Nothing was asked for in particular.
 * @property {import('./instances.mjs').Options} options
 * @property {boolean} purge
 */

/**
 * @param {readonly string[]} args
 * @returns {Arguments}
 */
export function parseArguments(args) {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { rabbitmq: { type: 'string' }, kafka: { type: 'string' }, purge: { type: 'boolean' } },
  });
  const [command, ...named] = positionals;
  if (command !== 'up' && command !== 'down' && command !== 'status') {
    throw new TypeError(command ? `no command ${command}` : 'a command is missing');
  }
  const { purge = false, ...options } = values;
  if (purge && command !== 'down') throw new TypeError('--purge belongs to down');
  const unknown = named.find((name) => !isBrokerName(name));
  if (unknown !== undefined) throw new TypeError(`no broker ${unknown}`);
  const names = brokerNames.filter((name) => named.length === 0 || named.includes(name));
  for (const name of brokerNames) instanceOf(name, options);
  return { command, names, isAll: named.length === 0 && Object.keys(options).length === 0, options, purge };
}

/**
 * @param {string} name
 * @returns {name is import('./instances.mjs').BrokerName}
 */
function isBrokerName(name) {
  return /** @type {readonly string[]} */ (brokerNames).includes(name);
}
