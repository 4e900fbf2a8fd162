/** The command line says something that cannot be done; nothing was begun. */
export class UsageError extends Error {}
