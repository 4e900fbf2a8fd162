import type { DeadLetterFilter } from '../../core/dead-letter/admin/dead-letter-filter.js';
import { UsageError } from '../usage-error.js';

/** Flags that select dead letters. */
export interface FilterFlags {
  readonly id?: readonly string[];
  readonly reason?: readonly string[];
  readonly handler?: readonly string[];
  readonly pattern?: readonly string[];
  readonly messageId?: readonly string[];
  readonly correlationId?: readonly string[];
  readonly since?: Date;
  readonly until?: Date;
  readonly header?: readonly HeaderFlag[];
  readonly text?: string;
}

export type HeaderFlag = readonly [name: string, value: string];

/** @throws UsageError if no dead letter can match */
export function readFilter(flags: FilterFlags): DeadLetterFilter {
  const { id, reason, handler, pattern, messageId, correlationId, since, until, header = [], text } = flags;
  if (since !== undefined && until !== undefined && since >= until)
    throw new UsageError(
      `--since ${since.toISOString()} is not before --until ${until.toISOString()}: no time matches both`,
    );
  const names = header.map(([name]) => name);
  const duplicate = names.find((name, i) => names.indexOf(name) !== i);
  if (duplicate !== undefined)
    throw new UsageError(`--header ${JSON.stringify(duplicate)} is given twice: all headers must match`);
  const headers = Object.fromEntries(header);
  return {
    ids: id,
    reasons: reason,
    handlers: handler,
    patterns: pattern,
    messageIds: messageId,
    correlationIds: correlationId,
    since,
    until,
    headers,
    text,
  };
}

/**
 * A forgotten or misquoted filter must not delete everything: that takes `--all`.
 *
 * @throws UsageError without a filter and `--all`, or with both
 */
export function readDiscardFilter(flags: FilterFlags & { readonly all?: true }): DeadLetterFilter {
  const filter = readFilter(flags);
  if (flags.all !== true && !isFiltering(filter))
    throw new UsageError('discard without a filter deletes all dead letters: add a filter, or --all');
  if (flags.all === true && isFiltering(filter))
    throw new UsageError('--all is for a discard without a filter: omit --all, or the filters');
  return filter;
}

/** Whether the filter excludes any dead letter. */
export function isFiltering(filter: DeadLetterFilter): boolean {
  const { headers = {}, ...others } = filter;
  return Object.keys(headers).length > 0 || Object.values(others).some((value) => value !== undefined);
}
