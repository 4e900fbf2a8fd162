import { headerText, type DeadLetterRecord } from '../../core/dead-letter/admin/dead-letter-record.js';
import { indentJson } from './indent-json.js';
import { textOf } from './dead-letter-json.js';
import { cut, safeLine, safeLines } from './safe-text.js';
import { errorLine } from './pluralize.js';

const indent = '  ';
/** Limit of the bytes shown of a binary body. */
const bytesShown = 512;
const bytesInLine = 16;
const headerWidth = 1_000;

/** All fields of one dead letter, as text. */
export function deadLetterView(deadLetter: DeadLetterRecord): string {
  const fields: [name: string, value: string | number | Date | undefined][] = [
    ['id', deadLetter.id],
    ['reason', deadLetter.reason],
    ['error', deadLetter.error && errorLine(deadLetter.error)],
    ['source', deadLetter.source],
    ['group', deadLetter.group],
    ['handler', deadLetter.handler],
    ['pattern', deadLetter.pattern],
    ['attempts', deadLetter.attempts === 0 ? undefined : deadLetter.attempts],
    ['replayed', deadLetter.replays === 0 ? undefined : `${deadLetter.replays} times before`],
    ['sent at', deadLetter.sentAt],
    ['first failed at', deadLetter.firstFailedAt],
    ['failed at', deadLetter.failedAt],
    ['consumer', deadLetter.consumer],
    ['message id', deadLetter.messageId],
    ['correlation id', deadLetter.correlationId],
    ['key', deadLetter.key],
    ['content type', deadLetter.contentType],
  ];
  const known = fields.filter(([, value]) => value !== undefined);
  const head = known.map(([name, value]) => `${name.padEnd(15)}  ${safeLine(valueText(value!))}`).join('\n');
  return `${[head, stackView(deadLetter), headersView(deadLetter), bodyView(deadLetter)].filter((part) => part !== '').join('\n\n')}\n`;
}

function valueText(value: string | number | Date): string {
  return value instanceof Date ? value.toISOString() : String(value);
}

function stackView({ error }: DeadLetterRecord): string {
  return error?.stack === undefined ? '' : `stack\n${safeLines(error.stack, indent)}`;
}

function headersView({ headers }: DeadLetterRecord): string {
  const lines = Object.entries(headers).map(
    ([name, value]) => `${indent}${safeLine(name)}: ${cut(safeLine(headerText(value)), headerWidth)}`,
  );
  return lines.length === 0 ? '' : `headers\n${lines.join('\n')}`;
}

function bodyView({ body }: DeadLetterRecord): string {
  if (body === null) return 'body: none, a tombstone';
  if (body.length === 0) return 'body: empty';
  const text = textOf(body);
  const size = `${body.length} ${body.length === 1 ? 'byte' : 'bytes'}`;
  if (text === undefined) return `body: ${size}, binary\n${hexView(body)}`;
  const json = prettyJson(text);
  return json === undefined
    ? `body: ${size} of text\n${safeLines(text, indent)}`
    : `body: ${size} of JSON\n${safeLines(json, indent)}`;
}

/** Undefined if the text is not JSON. */
function prettyJson(text: string): string | undefined {
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  return indentJson(text);
}

function hexView(body: Buffer): string {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(body.length, bytesShown); at += bytesInLine) {
    const bytes = body.subarray(at, Math.min(at + bytesInLine, bytesShown));
    const pairs = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const characters = bytes.toString('latin1').replaceAll(/[^ -~]/g, '.');
    lines.push(
      `${indent}${at.toString(16).padStart(4, '0')}  ${pairs.padEnd(bytesInLine * 3)} ${characters}`,
    );
  }
  if (body.length > bytesShown) lines.push(`${indent}… ${body.length - bytesShown} more; use --json for all`);
  return lines.join('\n');
}
