import { headerText, type DeadLetterRecord } from './dead-letter-record.js';

/**
 * Which letters are meant: those for which everything holds that is given. A list holds where any of its entries does.
 *
 * @publicApi
 */
export interface DeadLetterFilter {
  readonly ids?: readonly string[] | undefined;
  /** E.g. `retries-exhausted`. */
  readonly reasons?: readonly string[] | undefined;
  /** Ids of handlers. */
  readonly handlers?: readonly string[] | undefined;
  readonly patterns?: readonly string[] | undefined;
  /** Failed then or later. A letter without a time is never meant. */
  readonly since?: Date | undefined;
  /** Failed before then. A letter without a time is never meant. */
  readonly until?: Date | undefined;
  /** Headers by name, each with the text that it has. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Found, in whatever case, in the body read as UTF-8, or in the error's name or message. */
  readonly text?: string | undefined;
}

export function matchesFilter(deadLetter: DeadLetterRecord, filter: DeadLetterFilter): boolean {
  const { ids, reasons, handlers, patterns, since, until, headers, text } = filter;
  const { failedAt } = deadLetter;
  return (
    isAmong(deadLetter.id, ids) &&
    isAmong(deadLetter.reason, reasons) &&
    isAmong(deadLetter.handler, handlers) &&
    isAmong(deadLetter.pattern, patterns) &&
    (since === undefined || (failedAt !== undefined && failedAt >= since)) &&
    (until === undefined || (failedAt !== undefined && failedAt < until)) &&
    Object.entries(headers ?? {}).every(([name, value]) => hasHeader(deadLetter, name, value)) &&
    (text === undefined || holdsText(deadLetter, text.toLowerCase()))
  );
}

function isAmong(value: string | undefined, wanted: readonly string[] | undefined): boolean {
  return wanted === undefined || (value !== undefined && wanted.includes(value));
}

function hasHeader({ headers }: DeadLetterRecord, name: string, wanted: string): boolean {
  if (!Object.hasOwn(headers, name)) return false;
  const value = headers[name];
  return (Array.isArray(value) ? value : [value]).some((one) => headerText(one) === wanted);
}

function holdsText({ body, error }: DeadLetterRecord, text: string): boolean {
  const places = [body?.toString(), error?.name, error?.message];
  return places.some((place) => place?.toLowerCase().includes(text));
}
