/** What a line can end as, in the order of the report. */
export const outcomes = ['handled', 'duplicate', 'malformed', 'invalid', 'unknown', 'failed'] as const;
export type Outcome = (typeof outcomes)[number];

export interface Entry {
  /** Number of the line in the file, from 1. */
  readonly line: number;
  readonly outcome: Outcome;
  /** What happened, or the error. */
  readonly why: string;
  /** Number of the attempt that ended so, from 1. */
  readonly attempt: number;
}
