import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const orderFile = join('sample', '01-tour', 'orders.jsonl');

/** One line of the file. */
export interface OrderLine {
  /** From 1. */
  readonly number: number;
  readonly text: string;
  /** The order number, if the line contains one. For the report. */
  readonly subject: string | undefined;
  /** Undefined where the line is no JSON object with a `type`. */
  readonly event: OrderEvent | undefined;
}

export interface OrderEvent {
  readonly type: string;
  /** Messages of one key are handled in order. */
  readonly key: string | undefined;
  readonly data: object;
}

export async function readOrderFile(): Promise<readonly OrderLine[]> {
  const text = await readFile(findOrderFile(), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line, i) => ({
      number: i + 1,
      text: line,
      subject: /SH-\d+/.exec(line)?.[0],
      event: readEvent(line),
    }));
}

/** The compiled tour is in `.build/`, the file beside the source, so it is searched for from here upwards. */
function findOrderFile(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const path = join(folder, orderFile);
    if (existsSync(path)) return path;
    if (folder === dirname(folder))
      throw new Error(`${orderFile} was not found; run the tour inside its repository`);
  }
}

function readEvent(line: string): OrderEvent | undefined {
  try {
    const data: unknown = JSON.parse(line);
    if (typeof data !== 'object' || data === null || !('type' in data) || typeof data.type !== 'string')
      return undefined;
    return {
      type: data.type,
      key: 'order' in data && typeof data.order === 'string' ? data.order : undefined,
      data,
    };
  } catch {
    // Such lines are part of the tour: they are published as they are.
    return undefined;
  }
}
