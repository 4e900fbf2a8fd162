/** Where core writes its lines; Nest's `Logger` fits. No payload and no credential is ever passed to it. */
export interface StorkLogger {
  debug(line: string): void;
  log(line: string): void;
  warn(line: string): void;
  error(line: string): void;
}
