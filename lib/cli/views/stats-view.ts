import type { DeadLetterStore } from '../../core/port/dead-letter-store.js';
import type { DeadLetterStats } from '../../core/dead-letter/admin/dead-letter-operations.js';
import { cut, safeLine } from './safe-text.js';
import { deadLettersText, storeText } from './pluralize.js';

const nameWidth = 60;
const barWidth = 30;

/** Counts of dead letters by kind, as text. */
export function statsView(store: DeadLetterStore, stats: DeadLetterStats): string {
  const { total, replayed, oldest, newest, byReason, byHandler, byPattern, byError } = stats;
  const lines = [`${deadLettersText(total)} in ${storeText(store)}`];
  if (oldest !== undefined && newest !== undefined) {
    lines.push(`oldest  ${oldest.toISOString()}`, `newest  ${newest.toISOString()}`);
  }
  if (replayed > 0) lines.push(`${replayed} of them were replayed before and failed again`);
  const parts = [
    histogram('reason', byReason),
    histogram('handler', byHandler),
    histogram('pattern', byPattern),
    histogram('error', byError),
  ];
  return `${[lines.join('\n'), ...parts.filter((part) => part !== '')].join('\n\n')}\n`;
}

/** One line per name with its count and a bar, the largest count first. */
function histogram(title: string, counts: Readonly<Partial<Record<string, number>>>): string {
  const rows = Object.entries(counts)
    .map(([name, count = 0]) => ({ name: cut(safeLine(name), nameWidth), count }))
    .toSorted((a, b) => b.count - a.count);
  if (rows.length === 0) return '';
  const most = rows[0]!.count;
  const wide = Math.max(...rows.map(({ name }) => [...name].length));
  const lines = rows.map(({ name, count }) => {
    const bar = '#'.repeat(Math.max(1, Math.round((count / most) * barWidth)));
    const pad = ' '.repeat(wide - [...name].length);
    return `  ${name}${pad}  ${String(count).padStart(String(most).length)}  ${bar}`;
  });
  return `by ${title}\n${lines.join('\n')}`;
}
