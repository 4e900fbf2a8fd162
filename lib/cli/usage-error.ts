/** The arguments are missing, invalid or contradictory; nothing was started. */
export class UsageError extends Error {}
