import { Counters } from '../../../lib/core/counters.js';
import { systemClock } from '../../../lib/core/clock.js';
import type { DeadLetterBox, DeadLetterPlace } from '../../../lib/core/dead-letters.js';
import type { DeadLetterFilter } from '../../../lib/core/letter-filter.js';
import { replayLetters, type LetterProgress, type LetterReport } from '../../../lib/core/letter-work.js';
import { kafka, type KafkaOptions } from 'nestjs-stork/kafka';

/** What a transport that only looks at dead letters says. */
export const warnings: string[] = [];

const logger = {
  debug: () => {},
  log: () => {},
  warn: (line: string) => void warnings.push(line),
  error: (line: string) => void warnings.push(line),
};

export interface Desk {
  readonly box: DeadLetterBox;
  readonly close: () => Promise<void>;
}

/** The dead letters of one transport, without an application. */
export async function openDesk(
  options: Partial<KafkaOptions> & Pick<KafkaOptions, 'brokers'>,
  place: DeadLetterPlace,
): Promise<Desk> {
  const environment = {
    name: 'main',
    clock: systemClock,
    logger,
    counters: new Counters(),
    shared: new Map<symbol, unknown>(),
  };
  const driver = kafka(options).createDriver(environment);
  const close = (): Promise<void> => driver.close(5_000);
  try {
    await driver.connect(AbortSignal.timeout(10_000));
    return { box: await driver.deadLetters(place), close };
  } catch (error) {
    await close();
    throw error;
  }
}

export interface ReplayAll {
  readonly filter?: DeadLetterFilter;
  readonly signal?: AbortSignal;
  readonly window?: number;
  readonly onProgress?: (progress: LetterProgress) => void;
}

/** As fast as it goes. */
export function replayAll(
  box: DeadLetterBox,
  { filter = {}, signal = new AbortController().signal, window, onProgress = () => {} }: ReplayAll = {},
): Promise<LetterReport> {
  const limits = { dryRun: false, max: Infinity, rate: Infinity, maxReplays: 3, window };
  return replayLetters(box, { filter, signal, onProgress, clock: systemClock, ...limits });
}
