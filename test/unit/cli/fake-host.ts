import type { OpenedBox } from '../../../lib/cli/connect.js';
import type { Host } from '../../../lib/cli/host.js';
import { run } from '../../../lib/cli/run.js';
import type { Target } from '../../../lib/cli/target.js';
import { systemClock } from '../../../lib/core/clock.js';
import type {
  DeadLetterBox,
  LetterVisitor,
  PassOptions,
  StoredLetter,
} from '../../../lib/core/dead-letters.js';
import type { Headers } from '../../../lib/core/headers.js';

export interface LetterFields {
  readonly id: string;
  readonly body?: Buffer | string | null;
  readonly headers?: Headers;
  readonly source?: string;
  readonly reason?: string;
}

export function letter({
  id,
  body = '{}',
  headers = {},
  source = 'orders',
  reason,
}: LetterFields): StoredLetter {
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

/** Letters in a list; what is replayed or discarded leaves it. */
export class FakeBox implements DeadLetterBox {
  readonly name = 'orders.dlq';
  readonly source = 'orders';
  readonly group: string | undefined;
  readonly defaultWindow = 1;
  readonly replayed: string[] = [];
  readonly discarded: string[] = [];
  readonly windows: number[] = [];
  said: string[] = [];
  isClosed = false;
  /** Called before each letter is asked about. */
  beforeVisit: (letter: StoredLetter) => void = () => {};
  letters: StoredLetter[];

  constructor(letters: readonly StoredLetter[], group?: string) {
    this.letters = [...letters];
    this.group = group;
  }

  async count(): Promise<number> {
    return this.letters.length;
  }

  async warnings(): Promise<readonly string[]> {
    return this.said;
  }

  async pass(visitor: LetterVisitor, { window, signal }: PassOptions): Promise<void> {
    this.windows.push(window);
    for (const stored of this.letters) {
      this.beforeVisit(stored);
      signal.throwIfAborted();
      const verdict = await visitor.visit(stored);
      if (verdict === 'stop') break;
      if (verdict === 'keep') continue;
      this.letters = this.letters.filter((other) => other !== stored);
      (verdict === 'discard' ? this.discarded : this.replayed).push(stored.id);
      visitor.settled(stored, verdict === 'discard' ? 'discarded' : 'replayed');
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
  /** Where it looked; undefined where it came to nothing. */
  readonly target: Target | undefined;
}

export interface RunFields {
  readonly env?: Host['env'];
  readonly width?: number;
  readonly signal?: AbortSignal;
  readonly open?: () => Promise<OpenedBox>;
}

export const somewhere = { RABBITMQ_URL: 'amqp://user:hunter2@localhost', QUEUE_NAME: 'orders' };

/** The command line over a box that is no broker's. */
export async function runOver(box: FakeBox, args: string, fields: RunFields = {}): Promise<Ran> {
  const { env = somewhere, width, signal = new AbortController().signal } = fields;
  const text = { stdout: '', stderr: '' };
  let target: Target | undefined;
  const opened = async (): Promise<OpenedBox> => ({ box, close: () => box.close() });
  const code = await run(args.split(' '), {
    env,
    stdout: { width, write: (more) => void (text.stdout += more) },
    stderr: { width, write: (more) => void (text.stderr += more) },
    clock: systemClock,
    signal,
    openBox: (where) => {
      target = where;
      return (fields.open ?? opened)();
    },
  });
  return { code, ...text, target };
}
