/** Below 1, since medians of equal code differ by a few percent on a shared machine. */
export const leastRatio = 0.95;

/** `ratios` are the medians of new by old, one for each comparison; one at the threshold is enough. */
export function verdictOf(ratios) {
  return ratios.some((ratio) => ratio >= leastRatio) ? 'no worse' : 'worse';
}
