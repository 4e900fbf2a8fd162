import { kafka } from './kafka.mjs';
import { rabbitmq } from './rabbitmq.mjs';
import { redis } from './redis.mjs';

/**
 * How to run a kind of broker.
 * @typedef {object} Broker
 * @property {string} variable The environment variable that gives one.
 * @property {number} limitMs How long it may take to be ready.
 * @property {string} hint What to install if the broker cannot be started.
 * @property {(port: number) => string} url
 * @property {(address: import('./probes.mjs').Address) => Promise<import('./probes.mjs').Answer | undefined>}
 * probe
 * @property {(instance: import('./instances.mjs').Instance) => Promise<import('./probes.mjs').Answer |
 * undefined>} [ask] Where one of ours has to be asked otherwise than by its port alone.
 * @property {(instance: import('./instances.mjs').Instance) => Promise<boolean>} canRun Without a container,
 * here.
 * @property {(instance: import('./instances.mjs').Instance) => Promise<void>} install
 * @property {Launch} launch Starts it, detached, with its folder as working folder and its output in `log`
 * there.
 * @property {(instance: import('./instances.mjs').Instance) => import('./processes.mjs').ProcessRef |
 * undefined} [mainProcess] Where the process that `launch` started is only a script around it.
 * @property {(instance: import('./instances.mjs').Instance) => Promise<void>} [ended] What is to do once it
 * has ended.
 * @property {(instance: import('./instances.mjs').Instance) => string} [release] The version that is started
 * here, where the server does not tell it.
 * @property {(instance: import('./instances.mjs').Instance, args: readonly string[]) => Promise<string>}
 * [ctl]
 *
 * @callback Launch
 * @param {import('./instances.mjs').Instance} instance
 * @param {import('./state.mjs').Entry} entry What is to be remembered before anything is started.
 * @returns {Promise<import('./processes.mjs').ProcessRef>}
 */

/** @type {Record<import('./instances.mjs').BrokerName, Broker>} */
export const brokers = { rabbitmq, kafka, redis };
