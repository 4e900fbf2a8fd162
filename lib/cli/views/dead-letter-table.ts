import type { DeadLetterRecord } from '../../core/dead-letter/admin/dead-letter-record.js';
import { cut, safeLine } from './safe-text.js';
import { errorLine } from './pluralize.js';

const titles = ['ID', 'FAILED AT', 'REASON', 'HANDLER', 'ATTEMPTS', 'ERROR'];
/**
 * Width limit of a cell: senders choose the texts, and a long one must not push other columns off
 * the screen.
 */
const maxCellWidth = 40;
const gap = '  ';

/** One line per dead letter, cut to `width`, the columns of the terminal. */
export function deadLetterTable(deadLetters: readonly DeadLetterRecord[], width: number | undefined): string {
  const rows = [titles, ...deadLetters.map(cellsOf)];
  const widths = titles.map((_, column) => Math.max(...rows.map((row) => [...row[column]!].length)));
  const lines = rows.map((row) => {
    const last = row.length - 1;
    const cells = row.map((cell, column) => (column === last ? cell : padded(cell, widths[column]!)));
    const line = cells.join(gap).trimEnd();
    return width === undefined ? line : cut(line, width);
  });
  return `${lines.join('\n')}\n`;
}

function cellsOf({ id, failedAt, reason, handler, attempts, error }: DeadLetterRecord): string[] {
  const errorText = error === undefined ? '-' : errorLine(error);
  return [
    cut(safeLine(id), maxCellWidth),
    failedAt?.toISOString() ?? '-',
    cut(safeLine(reason), maxCellWidth),
    cut(safeLine(handler ?? '-'), maxCellWidth),
    attempts === 0 ? '-' : String(attempts),
    safeLine(errorText),
  ];
}

function padded(cell: string, width: number): string {
  return cell + ' '.repeat(width - [...cell].length);
}
