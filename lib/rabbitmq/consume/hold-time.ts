import type { SubscriptionSpec } from '../../core/port/driver.js';
import { totalMs } from '../../core/retry/retry-policy.js';
import type { ConfigProblem } from '../../core/runtime/errors.js';

export interface HoldTimeLimits {
  readonly prefetch: number;
  readonly consumerTimeoutMs: number;
  /** For error messages. */
  readonly transport: string;
}

/**
 * Checks that in-process retries fit into half of RabbitMQ's consumer timeout, after which the broker
 * closes the channel of an unacknowledged message. The timeout runs from delivery: a prefetched message
 * also waits for those that are processed before it.
 */
export function validateHoldTime(
  { concurrency, maxHoldTime }: SubscriptionSpec,
  { prefetch, consumerTimeoutMs, transport }: HoldTimeLimits,
): ConfigProblem[] {
  const { handler, waitMs, attempts, timeoutMs } = maxHoldTime;
  const holdMs = totalMs(maxHoldTime);
  const rounds = Math.ceil(prefetch / concurrency);
  if (rounds * holdMs <= consumerTimeoutMs / 2) return [];
  const limitMs = Math.floor(consumerTimeoutMs / 2 / rounds);
  const isUnbounded = timeoutMs === 0;
  return [
    {
      name: `${isUnbounded ? 'retry' : 'retry and timeoutMs'} of ${handler} on the transport ${JSON.stringify(transport)}`,
      expected:
        `in-process ${isUnbounded ? 'waits' : 'waits and attempts'} of at most ${limitMs} ms in total: half of consumerTimeoutMs, ${consumerTimeoutMs}, ` +
        `for ${rounds} messages in sequence (prefetch ${prefetch}, concurrency ${concurrency}); ` +
        'redeliverDelaysMs waits in the broker',
      given: isUnbounded
        ? `${waitMs} ms`
        : `${waitMs} ms of waits and ${attempts} attempts of ${timeoutMs} ms, ${holdMs} ms`,
    },
  ];
}
