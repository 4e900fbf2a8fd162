import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** A terminal gets colours and a progress bar, a file or a pipe plain lines. */
export const isTerminal = process.stdout.isTTY;
const isColourful = isTerminal && (process.env['NO_COLOR'] ?? '') === '';
const widest = isTerminal ? process.stdout.columns || 80 : 140;

export function color(style: Style, text: string): string {
  return isColourful ? styleText(style, text) : text;
}

/** 1000 → `1 000`. */
export function grouped(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ' ');
}

/**
 * Cuts text to the rest of a line that has `used` columns. Control characters are removed: messages may
 * contain any.
 */
export function fit(text: string, used: number): string {
  const clean = text.replace(/\p{Cc}/gu, ' ');
  const room = Math.max(widest - used, 20);
  return clean.length <= room ? clean : `${clean.slice(0, room - 1)}…`;
}
