/**
 * Interface of Nest's `Logger`, as far as core uses it. Core never passes it a message body or credentials.
 */
export interface StorkLogger {
  debug(line: string): void;
  log(line: string): void;
  warn(line: string): void;
  error(line: string): void;
}
