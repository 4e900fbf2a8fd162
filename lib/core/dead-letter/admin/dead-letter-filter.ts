import { headerText, type DeadLetterRecord } from './dead-letter-record.js';

/**
 * Selects dead letters that match all given fields. A list matches if any of its entries does.
 *
 * @publicApi
 */
export interface DeadLetterFilter {
  readonly ids?: readonly string[] | undefined;
  /** Dead letter reasons, e.g. `retries-exhausted`. */
  readonly reasons?: readonly string[] | undefined;
  /** Handler ids. */
  readonly handlers?: readonly string[] | undefined;
  readonly patterns?: readonly string[] | undefined;
  readonly messageIds?: readonly string[] | undefined;
  readonly correlationIds?: readonly string[] | undefined;
  /** Failed at this time or later. A dead letter without a time of failure does not match. */
  readonly since?: Date | undefined;
  /** Failed before this time. A dead letter without a time of failure does not match. */
  readonly until?: Date | undefined;
  /** Header names and the text that each must have. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Text in the body, decoded as UTF-8, or in the error's name or message. Case-insensitive. */
  readonly text?: string | undefined;
}

export function matchesFilter(deadLetter: DeadLetterRecord, filter: DeadLetterFilter): boolean {
  const { ids, reasons, handlers, patterns, messageIds, correlationIds, since, until, headers, text } =
    filter;
  const { failedAt } = deadLetter;
  return (
    isAmong(deadLetter.id, ids) &&
    isAmong(deadLetter.reason, reasons) &&
    isAmong(deadLetter.handler, handlers) &&
    isAmong(deadLetter.pattern, patterns) &&
    isAmong(deadLetter.messageId, messageIds) &&
    isAmong(deadLetter.correlationId, correlationIds) &&
    (since === undefined || (failedAt !== undefined && failedAt >= since)) &&
    (until === undefined || (failedAt !== undefined && failedAt < until)) &&
    Object.entries(headers ?? {}).every(([name, value]) => hasHeader(deadLetter, name, value)) &&
    (text === undefined || containsText(deadLetter, text.toLowerCase()))
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

function containsText({ body, error }: DeadLetterRecord, text: string): boolean {
  const texts = [body?.toString(), error?.name, error?.message];
  return texts.some((each) => each?.toLowerCase().includes(text));
}
