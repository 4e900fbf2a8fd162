import type { OpenedStore, OpenStore } from '../../../lib/cli/input/connect.js';
import type { Host } from '../../../lib/cli/host.js';
import { run } from '../../../lib/cli/run.js';
import type { Target } from '../../../lib/cli/input/target.js';
import { systemClock, type StorkClock } from '../../../lib/core/runtime/clock.js';
import type {
  DeadLetterStore,
  DeadLetterVisitor,
  ScanOptions,
  StoredDeadLetter,
} from '../../../lib/core/port/dead-letter-store.js';
import { withTimeout } from '../../../lib/core/runtime/with-timeout.js';
import type { MessageHeaders } from '../../../lib/core/message/headers.js';

export interface DeadLetterFields {
  readonly id: string;
  readonly body?: Buffer | string | null;
  readonly headers?: MessageHeaders;
  readonly source?: string;
  readonly reason?: string;
}

export function deadLetter({
  id,
  body = '{}',
  headers = {},
  source = 'orders',
  reason,
}: DeadLetterFields): StoredDeadLetter {
  return {
    id,
    message: {
      body: typeof body === 'string' ? Buffer.from(body) : body,
      headers: {
        'stork-origin': source,
        'stork-death-reason': reason ?? 'retries-exhausted',
        'stork-failed-at': '2026-01-31T09:30:00.000Z',
        ...headers,
      },
      patterns: ['order.created'],
      contentType: 'application/json',
      messageId: `m-${id}`,
      correlationId: undefined,
      key: undefined,
      timestamp: undefined,
      origin: { source: 'orders.dlq' },
      raw: undefined,
    },
  };
}

/** A store over a list, from which replayed and discarded dead letters are removed. */
export class FakeStore implements DeadLetterStore {
  readonly name = 'orders.dlq';
  readonly source = 'orders';
  readonly group: string | undefined;
  readonly defaultWindow = 1;
  readonly replayed: string[] = [];
  readonly discarded: string[] = [];
  readonly windows: number[] = [];
  warningLines: string[] = [];
  /** Ids of dead letters that cannot be replayed. */
  refused: string[] = [];
  isClosed = false;
  /** Called before each dead letter is passed to the visitor. */
  beforeVisit: (deadLetter: StoredDeadLetter) => void = () => {};
  deadLetters: StoredDeadLetter[];

  constructor(deadLetters: readonly StoredDeadLetter[], group?: string) {
    this.deadLetters = [...deadLetters];
    this.group = group;
  }

  async count(): Promise<number> {
    return this.deadLetters.length;
  }

  async warnings(): Promise<readonly string[]> {
    return this.warningLines;
  }

  async scan(visitor: DeadLetterVisitor, { window, signal }: ScanOptions): Promise<void> {
    this.windows.push(window);
    for (const stored of this.deadLetters) {
      this.beforeVisit(stored);
      signal.throwIfAborted();
      const action = await withTimeout(async () => visitor.decide(stored), { signal });
      if (action === 'stop') break;
      if (action === 'keep') continue;
      if (this.refused.includes(stored.id)) {
        visitor.settled(stored, { skipped: new Error('the queue is full') });
        continue;
      }
      this.deadLetters = this.deadLetters.filter((other) => other !== stored);
      (action === 'discard' ? this.discarded : this.replayed).push(stored.id);
      visitor.settled(stored, action === 'discard' ? 'discarded' : 'replayed');
    }
    signal.throwIfAborted();
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The target that it opened; undefined where it opened none. */
  readonly target: Target | undefined;
}

export interface RunFields {
  readonly env?: Host['env'];
  readonly width?: number;
  readonly signal?: AbortSignal;
  /** @defaultValue opens the fake store */
  readonly open?: OpenStore;
  readonly clock?: StorkClock;
  /** Called with each text that is written to standard output. */
  readonly onStdout?: (text: string) => void;
  /** Awaited when the command flushes standard output. */
  readonly onFlush?: () => Promise<void>;
  /** Where standard error is a terminal. @defaultValue `width` */
  readonly stderrWidth?: number;
}

export const rabbitMqEnv = { RABBITMQ_URL: 'amqp://user:hunter2@localhost', QUEUE_NAME: 'orders' };

/** Runs the command line over a fake store. */
export async function runOver(store: FakeStore, args: string, fields: RunFields = {}): Promise<Ran> {
  const { env = rabbitMqEnv, width, signal = new AbortController().signal, clock = systemClock } = fields;
  const { onFlush = () => Promise.resolve(), stderrWidth = width } = fields;
  const text = { stdout: '', stderr: '' };
  let target: Target | undefined;
  const opened = async (): Promise<OpenedStore> => ({ store, close: () => store.close() });
  const code = await run(args.split(' '), {
    env,
    stdout: {
      width,
      write: (more) => {
        text.stdout += more;
        fields.onStdout?.(more);
      },
      flushed: onFlush,
    },
    stderr: { width: stderrWidth, write: (more) => void (text.stderr += more), flushed: onFlush },
    clock,
    signal,
    openStore: (where, openFields) => {
      target = where;
      return (fields.open ?? opened)(where, openFields);
    },
  });
  return { code, ...text, target };
}
