import { composeCtl } from './compose.mjs';
import { brokers } from './kinds.mjs';

/**
 * `rabbitmqctl` for that server. One that was not started here has its control program elsewhere.
 * @param {import('./find.mjs').Found} found
 * @returns {(...args: string[]) => Promise<string>} What it printed.
 */
export function ctlOf({ instance, how, address }) {
  return async (...args) => {
    if (how === 'compose') return composeCtl(instance, args);
    const { ctl } = brokers[instance.broker];
    if (how !== 'native' || !ctl) throw new Error(`no rabbitmqctl for ${address}: it was not started here`);
    return ctl(instance, args);
  };
}
