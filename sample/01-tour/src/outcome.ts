/** What can become of a line, in the order in which the story tells it. */
export const outcomes = ['handled', 'duplicate', 'malformed', 'invalid', 'unknown', 'failed'] as const;
export type Outcome = (typeof outcomes)[number];

export interface Entry {
  /** Number of the line in the file, from 1. */
  readonly line: number;
  readonly outcome: Outcome;
  /** What happened, or why it did not. */
  readonly why: string;
  /** Number of the run that came to it, from 1. */
  readonly attempt: number;
}
