import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** Redrawing and colour are for people at a terminal; a file or a pipe gets plain lines. */
export const isTerminal = process.stdout.isTTY;
const isColourful = isTerminal && (process.env['NO_COLOR'] ?? '') === '';
const widest = isTerminal ? process.stdout.columns || 80 : 140;

export function paint(style: Style, text: string): string {
  return isColourful ? styleText(style, text) : text;
}

/** 1000 → `1 000`. */
export function grouped(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ' ');
}

/** What fits into the rest of a line that has `used` columns. Text from messages may hold anything, so control characters go. */
export function fit(text: string, used: number): string {
  const clean = text.replace(/\p{Cc}/gu, ' ');
  const room = Math.max(widest - used, 20);
  return clean.length <= room ? clean : `${clean.slice(0, room - 1)}…`;
}
