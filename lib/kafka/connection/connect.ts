import { backoffMs, sleep, type BackoffOptions } from '../../core/runtime/clock.js';
import { withTimeout } from '../../core/runtime/with-timeout.js';
import type { ConnectionStateCell } from '../../core/port/connection-state.js';
import { ConnectionLostError, messageOf, StorkConfigError } from '../../core/runtime/errors.js';
import type { DriverEnvironment } from '../../nest/bootstrap/transport-definition.js';
import type { KafkaOptions } from '../options/options.js';
import { explainConnectError } from './explain-errors.js';

export interface ConnectFields {
  readonly options: KafkaOptions;
  readonly environment: DriverEnvironment;
  readonly reconnect: BackoffOptions;
  readonly state: ConnectionStateCell;
  readonly connectOnce: () => Promise<void>;
}

/**
 * Connects, with a back-off between attempts.
 *
 * @throws StorkConfigError at once if a retry cannot help
 * @throws ConnectionLostError with the last failure when the signal aborts
 */
export async function connectWithRetries(fields: ConnectFields, signal: AbortSignal): Promise<void> {
  const { options, environment, reconnect, state, connectOnce } = fields;
  const { clock, name, logger } = environment;
  let lastError: Error | undefined;
  state.move({ value: 'connecting' });
  for (let attempt = 1; ; attempt++) {
    try {
      await withTimeout(connectOnce(), { signal });
      if (attempt > 1) logger.log(`${name}: connected`);
      state.move({ value: 'ready' });
      return;
    } catch (error) {
      const explained = explainConnectError(error, options, name);
      if (explained instanceof StorkConfigError) throw explained;
      if (signal.aborted) throw abortedError(signal, options, lastError);
      lastError = explained;
      const delayMs = backoffMs(attempt, reconnect, Math.random);
      if (attempt === 1) logger.warn(`${name}: cannot connect yet: ${lastError.message}`);
      state.move({ value: 'backoff', attempt, delayMs, error: lastError });
      await sleep(clock, delayMs, signal);
      if (signal.aborted) throw abortedError(signal, options, lastError);
    }
  }
}

function abortedError(
  { reason }: AbortSignal,
  { brokers = [] }: KafkaOptions,
  lastError: Error | undefined,
): Error {
  const why = lastError === undefined ? `${brokers.join(', ')} did not answer` : lastError.message;
  return new ConnectionLostError(`${messageOf(reason)}: ${why}`, { cause: lastError });
}
