/** A class of errors, subclasses included, or a function that says whether an error is meant; one that throws means none. @publicApi */
export type ErrorMatcher = (abstract new (...args: never[]) => unknown) | ((error: unknown) => boolean);

/** Nobody wraps an error so often; a getter could make it endless. */
const maxDepth = 100;

/** Whether any matcher means the error, or one that it was caused by. Total: whatever was thrown. */
export function matchesError(error: unknown, matchers: readonly ErrorMatcher[]): boolean {
  const seen = new Set<unknown>();
  let cause = error;
  while (!seen.has(cause) && seen.size < maxDepth) {
    if (matchers.some((matcher) => isMeant(cause, matcher))) return true;
    seen.add(cause);
    cause = causeOf(cause);
    if (cause === undefined || cause === null) return false;
  }
  return false;
}

function isMeant(error: unknown, matcher: ErrorMatcher): boolean {
  try {
    if (isClass(matcher)) return error instanceof matcher;
    return (matcher as (error: unknown) => unknown)(error) === true;
  } catch {
    return false;
  }
}

/** A class cannot be called, and an old constructor of errors must not be. */
function isClass(matcher: ErrorMatcher): boolean {
  const { prototype } = matcher as { prototype?: unknown };
  if (prototype === Error.prototype || prototype instanceof Error) return true;
  return /^class\b/.test(Function.prototype.toString.call(matcher));
}

function causeOf(error: unknown): unknown {
  try {
    return typeof error === 'object' && error !== null ? (error as { cause?: unknown }).cause : undefined;
  } catch {
    return undefined;
  }
}
