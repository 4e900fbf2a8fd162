import { parseArgs } from 'node:util';

/** Options of the command line. */
export interface TourOptions {
  readonly broker: string;
  /** Whether this process publishes the file, and whether it handles the messages. At least one is true. */
  readonly isPublishing: boolean;
  readonly isConsuming: boolean;
  /** Undefined: the broker's own default. */
  readonly queue: string | undefined;
  /** File that keeps the outcomes, so that a killed shop can continue. */
  readonly state: string | undefined;
  /** Messages published per second; undefined: without a limit. */
  readonly pace: number | undefined;
}

/** @throws Error with one line for the person who typed it */
export function readOptions(args: readonly string[]): TourOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      broker: { type: 'string', default: 'memory' },
      publish: { type: 'boolean', default: false },
      consume: { type: 'boolean', default: false },
      queue: { type: 'string' },
      state: { type: 'string' },
      pace: { type: 'string' },
    },
  });
  const { broker, publish, consume, queue, state } = values;
  const pace = values.pace === undefined ? undefined : Number(values.pace);
  if (pace !== undefined && !(pace > 0)) {
    throw new Error(`--pace is a number of messages in a second, not "${values.pace}"`);
  }
  return {
    broker,
    // Without either flag the process does both.
    isPublishing: publish || !consume,
    isConsuming: consume || !publish,
    queue,
    state,
    pace,
  };
}
