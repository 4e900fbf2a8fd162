import type { DeadLetterRecord } from '../../core/dead-letter/admin/dead-letter-record.js';
import { cut, safeLine } from './safe-text.js';
import { errorLine } from './pluralize.js';

const titles = ['ID', 'FAILED AT', 'REASON', 'HANDLER', 'ATTEMPTS', 'ERROR'];
/** What anybody may have written must not push the rest off the screen. */
const widest = 40;
const gap = '  ';

/** A line for each letter; each is cut to `width`, the terminal's, if it is one. */
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
  const said = error === undefined ? '-' : errorLine(error);
  return [
    cut(safeLine(id), widest),
    failedAt?.toISOString() ?? '-',
    cut(safeLine(reason), widest),
    cut(safeLine(handler ?? '-'), widest),
    attempts === 0 ? '-' : String(attempts),
    safeLine(said),
  ];
}

function padded(cell: string, width: number): string {
  return cell + ' '.repeat(width - [...cell].length);
}
