import { Counters } from '../../../lib/core/runtime/reporting.js';
import { systemClock } from '../../../lib/core/runtime/clock.js';
import type { DeadLetterStore, DeadLetterLocation } from '../../../lib/core/port/dead-letter-store.js';
import type { DeadLetterFilter } from '../../../lib/core/dead-letter/admin/dead-letter-filter.js';
import {
  replayDeadLetters,
  type DeadLetterProgress,
  type DeadLetterReport,
} from '../../../lib/core/dead-letter/admin/dead-letter-operations.js';
import { kafka, type KafkaOptions } from 'nestjs-stork/kafka';

/** Warnings and errors of the transports that this file opens. */
export const warnings: string[] = [];

const logger = {
  debug: () => {},
  log: () => {},
  warn: (line: string) => void warnings.push(line),
  error: (line: string) => void warnings.push(line),
};

export interface OpenedStore {
  readonly store: DeadLetterStore;
  readonly close: () => Promise<void>;
}

/** The dead letters of one transport, without an application. */
export async function openStore(
  options: Partial<KafkaOptions> & Pick<KafkaOptions, 'brokers'>,
  place: DeadLetterLocation,
): Promise<OpenedStore> {
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
    return { store: await driver.deadLetters(place), close };
  } catch (error) {
    await close();
    throw error;
  }
}

export interface ReplayAll {
  readonly filter?: DeadLetterFilter;
  readonly signal?: AbortSignal;
  readonly window?: number;
  readonly onProgress?: (progress: DeadLetterProgress) => void;
}

/** Replays without a rate limit. */
export function replayAll(
  store: DeadLetterStore,
  { filter = {}, signal = new AbortController().signal, window, onProgress = () => {} }: ReplayAll = {},
): Promise<DeadLetterReport> {
  const limits = { dryRun: false, max: Infinity, rate: Infinity, maxReplays: 3, window };
  return replayDeadLetters(store, { filter, signal, onProgress, clock: systemClock, ...limits });
}
