import { parseArgs } from 'node:util';

/** What the command line says. */
export interface TourOptions {
  readonly broker: string;
  /** Whether this process sends the file, and whether it is the shop that handles it. At least one is true. */
  readonly isPublishing: boolean;
  readonly isConsuming: boolean;
  /** Undefined: the broker's own default. */
  readonly queue: string | undefined;
  /** File that keeps the outcomes, so that a shop that was killed can go on. */
  readonly state: string | undefined;
  /** Messages sent in a second; undefined is as fast as it goes. */
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
    // Neither is both: what one wants to see first.
    isPublishing: publish || !consume,
    isConsuming: consume || !publish,
    queue,
    state,
    pace,
  };
}
